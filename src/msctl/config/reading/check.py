"""What must hold between the parts of a project: names, ports, routes, dependencies. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msctl.config.origin import Place, did_you_mean
from msctl.config.reading.sources import env_name
from msctl.model.project import BrokerSpec, Condition, GatewaySpec, Isolation, Project, ServiceSpec
from msctl.model.snapshots import GATEWAY, BrokerMode, Kind

RESERVED = {
    GATEWAY: "put the gateway's settings under [gateway]",
    "broker": "put the broker's settings under [broker]",
    "dashboard": "put the dashboard's settings under [dashboard]",
    "msctl": "choose another name",
}
_NAME = r"[a-z][a-z0-9_-]*"
_LONGEST_NAME = 63
_ANYWHERE = {"0.0.0.0", "::", "[::]"}  # listens on every address, so it clashes with any
_LOOPBACK = {"127.0.0.1", "localhost", "::1", "[::1]"}


def check_name(name: str, place: Place) -> None:
    """Raises ConfigError for a name that no service can have."""
    if name in RESERVED:
        raise place.error(f'the name "{name}" is taken by msctl', hint=RESERVED[name])
    if not re.fullmatch(_NAME, name) or len(name) > _LONGEST_NAME:
        raise place.error(
            "a service's name begins with a small letter, and goes on with small letters, digits, - and _"
            f" ({_LONGEST_NAME} at most)"
        )


def check_project(project: Project, top: Place) -> None:
    """Raises ConfigError for the first thing that cannot be so."""
    declared = [spec for spec in project.services if spec.name != GATEWAY]
    services = top / "services"
    for spec in declared:
        _check_service(spec, services / spec.name)
    _check_variable_names(declared, services)
    _check_ports(project.gateway, declared, project.broker, top)
    _check_dashboard(project, declared, top)
    _check_routes(declared, services)
    _check_dependencies({spec.name: spec for spec in project.services}, services)


def _check_service(spec: ServiceSpec, place: Place) -> None:
    if spec.app is None and spec.command is None and spec.url is None:
        raise place.error(
            "a service needs what it runs",
            hint='set app = "module:attribute" (an aiohttp application) or command = "program arguments"; '
            'or url = "http://host:port", if it runs elsewhere',
        )
    if spec.app is not None and spec.command is not None:
        raise (place / "command").error("a service has either app or command, not both")
    if spec.kind is Kind.HOSTED and spec.replicas > 1 and spec.isolation is Isolation.NONE:
        raise (place / "replicas").error(
            f"{spec.replicas} instances of a hosted service would share one process",
            hint='set isolation = "process" beside it, so that each has its own',
        )
    if spec.liveness and spec.health is None and spec.kind is Kind.COMMAND:
        raise (place / "liveness").error("there is no probe to go by", hint='set health = "/path" beside it')


def _check_variable_names(services: Sequence[ServiceSpec], place: Place) -> None:
    seen: dict[str, str] = {}
    for spec in services:
        other = seen.setdefault(env_name(spec.name), spec.name)
        if other != spec.name:
            raise (place / spec.name).error(
                f'"{other}" and "{spec.name}" would share their variables ({env_name(spec.name)}_URL)',
                hint="rename one of them",
            )


def _check_ports(
    gateway: GatewaySpec | None, services: Sequence[ServiceSpec], broker: BrokerSpec, top: Place
) -> None:
    """Two services on one port are an accident; one that shares the gateway's port means to."""
    taken: dict[int, list[ServiceSpec]] = {}
    broker_host, broker_port = _broker_address(broker)
    for spec in services:
        if not spec.port or spec.url is not None:
            continue
        place = top / "services" / spec.name / "port"
        for other in taken.setdefault(spec.port, []):
            if _overlap(spec.host, other.host):
                raise place.error(
                    f"port {spec.port} is already that of {other.name}", hint="give each its own"
                )
        if spec.port == broker_port and _overlap(spec.host, broker_host):
            raise place.error(f"port {spec.port} is already that of the broker")
        taken[spec.port].append(spec)
    if gateway is not None and gateway.port == broker_port and _overlap(gateway.host, broker_host):
        raise (top / GATEWAY / "port").error(f"port {gateway.port} is already that of the broker")


def _check_dashboard(project: Project, services: Sequence[ServiceSpec], top: Place) -> None:
    """Its port is its own."""
    page = project.dashboard
    if not page.enabled or not page.port:
        return
    hint = "give one of them another port, or switch the dashboard off: [dashboard] enabled = false"
    for spec in services:
        if spec.port == page.port and spec.url is None and _overlap(spec.host, page.host):
            place = top / "services" / spec.name / "port"
            raise place.error(f"port {page.port} is already that of the dashboard", hint=hint)
    gateway = project.gateway
    if gateway is not None and gateway.port == page.port and _overlap(gateway.host, page.host):
        raise (top / GATEWAY / "port").error(f"port {page.port} is already that of the dashboard", hint=hint)


def _broker_address(broker: BrokerSpec) -> tuple[str, int]:
    from urllib.parse import urlsplit

    parts = urlsplit(broker.url)
    host = parts.hostname or "localhost"
    if broker.mode is BrokerMode.EXTERNAL and host not in _LOOPBACK:
        return host, 0
    return host, parts.port or (5671 if parts.scheme == "amqps" else 5672)


def _overlap(one: str, other: str) -> bool:
    return one == other or bool({one, other} & _ANYWHERE) or {one, other} <= _LOOPBACK


def _check_routes(services: Sequence[ServiceSpec], place: Place) -> None:
    from msctl.model.routing import conflicts  # a project's name is read without it

    at = [(spec.name, index) for spec in services for index in range(len(spec.routes))]
    for conflict in conflicts([route for spec in services for route in spec.routes]):
        name, index = at[conflict.later]
        raise (place / name / "routes" / index).error(
            conflict.reason, hint="take one of them out, or tell them apart"
        )


def _check_dependencies(services: Mapping[str, ServiceSpec], place: Place) -> None:
    for spec in services.values():
        for index, dependency in enumerate(spec.depends_on):
            here = place / spec.name / "depends_on"
            at = here / dependency.service
            at = at if at.origins.is_known(at.path) else here / index
            if dependency.service == "broker":
                raise at.error(
                    'the broker is no service: leave "broker" out',
                    hint="clients of the broker reconnect by themselves; it is up before any service starts",
                )
            target = services.get(dependency.service)
            if target is None:
                raise at.error(
                    f'there is no service "{dependency.service}"',
                    hint=did_you_mean(dependency.service, services),
                )
            if dependency.condition is Condition.COMPLETED and target.url is not None:
                raise at.error(
                    f"{target.name} runs elsewhere, and nobody tells when it has completed",
                    hint='wait for "ready", or take its url out',
                )
            if dependency.condition is Condition.COMPLETED and not target.oneshot:
                raise at.error(
                    f"{target.name} never completes, for it is no one-shot",
                    hint=f'set oneshot = true in [services.{target.name}], or wait for "ready"',
                )
    cycle = find_cycle({spec.name: [each.service for each in spec.depends_on] for spec in services.values()})
    if cycle:
        raise (place / cycle[0] / "depends_on").error(
            f"the services wait for each other: {' → '.join(cycle)}",
            hint="take one of these dependencies out",
        )


def find_cycle(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """The first circle in a graph, as `[a, b, a]`; empty if there is none."""
    done: set[str] = set()
    for start in edges:
        trail: list[str] = []
        pending = [(start, False)]
        while pending:
            node, leaving = pending.pop()
            if leaving:
                trail.pop()
                done.add(node)
            elif node in trail:
                return [*trail[trail.index(node) :], node]
            elif node not in done:
                trail.append(node)
                pending.append((node, True))
                pending.extend((target, False) for target in reversed(edges.get(node, ())))
    return []

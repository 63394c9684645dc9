"""Checks across the keys of a project: names, addresses, routes, dependencies. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msctl.config.problems import Problems
from msctl.config.reading.layers import env_name
from msctl.config.value_source import KeyRef
from msctl.hints import did_you_mean
from msctl.model.address import WILDCARDS, Address, is_loopback
from msctl.model.broker_spec import BrokerSpec
from msctl.model.broker_url import parse_url
from msctl.model.dependency_graph import find_cycle
from msctl.model.project import DiscoverySpec, Project
from msctl.model.route_spec import RouteSpec
from msctl.model.service_policies import Condition, Dependency
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import address_of, announces, clashes, runs_here, shares_gateway_port
from msctl.model.snapshots import GATEWAY, BrokerMode, Kind

RESERVED = {
    GATEWAY: "call the service 'api', for example; settings of msctl's own gateway are under [gateway]",
    "broker": "call the service 'rabbitmq', for example; settings of the stack's broker are under [broker]",
    "dashboard": "call the service 'flower', for example; settings of msctl's page are under [dashboard]",
    "msctl": "choose another name",
}
_NAME = r"[a-z][a-z0-9_-]*"
_LONGEST_NAME = 63
MAX_RESOLVE_S = 3600
MAX_TTL_S = 3600


def check_name(name: str, ref: KeyRef) -> None:
    """Raise ConfigError for an invalid service name."""
    if name in RESERVED:
        raise ref.error(f'the name "{name}" is reserved', hint=RESERVED[name])
    if not re.fullmatch(_NAME, name) or len(name) > _LONGEST_NAME:
        raise ref.error(
            f"a service name is a lower-case letter followed by lower-case letters, digits, - and _, at most "
            f"{_LONGEST_NAME} characters"
        )


def check_project(project: Project, top: KeyRef) -> None:
    """Raise ConfigError for all conflicts."""
    declared = [spec for spec in project.services if spec.name != GATEWAY]
    services = top / "services"
    problems = Problems()
    for spec in declared:
        with problems.noted():
            _check_service(spec, services / spec.name, project.discovery)
    with problems.noted():
        _check_variable_names(declared, services)
    with problems.noted():
        _check_addresses(project, top)
    with problems.noted():
        _check_registry(project.discovery, top / "discovery")
    for spec in declared:
        with problems.noted():
            _check_announced(spec, project, services / spec.name)
    _check_routes(declared, services, problems)
    _check_dependencies({spec.name: spec for spec in project.services}, services, problems)
    problems.check()


def _check_service(spec: ServiceSpec, ref: KeyRef, discovery: DiscoverySpec) -> None:
    declared = (spec.app, spec.command, spec.url, spec.static)
    if declared == (None,) * len(declared) and discovery.url is None:
        raise ref.error(
            "a service needs app, command, url or static",
            hint='set app = "module:attribute" (an aiohttp application) or command = "program arguments"; '
            'or url = "http://host:port" for an external service; [discovery] url finds it in a registry',
        )
    kinds = [name for name in ("app", "command", "static") if getattr(spec, name) is not None]
    if len(kinds) > 1:
        raise (ref / kinds[1]).error(f"set either {kinds[0]} or {kinds[1]}, not both")
    _check_url(spec, ref)
    if spec.replicas > 1 and runs_here(spec):
        raise (ref / "replicas").error(
            f"a hosted service in the stack's process cannot have {spec.replicas} replicas",
            hint='set isolation = "process", so that each instance has a process of its own',
        )
    if spec.cwd is not None and runs_here(spec):
        raise (ref / "cwd").error(
            "a hosted service in the stack's process works in the project's folder",
            hint='set isolation = "process", so that it can have another',
        )
    if spec.liveness and spec.health is None and spec.kind is Kind.COMMAND:
        raise (ref / "liveness").error("liveness needs a probe", hint='set health = "/path"')


def _check_url(spec: ServiceSpec, ref: KeyRef) -> None:
    for name in ("resolve", "host_header", "tls"):
        if getattr(spec, name) is not None and spec.url is None:
            raise (ref / name).error(f"{name} is for a service with a url", hint="set url, or remove it")
    if spec.tls is not None and "https:" not in spec.urls[0]:
        raise (ref / "tls").error("tls is for a url with https", hint='write url = "https://..."')
    if spec.resolve is not None and not 1 <= spec.resolve <= MAX_RESOLVE_S:
        raise (ref / "resolve").error("resolve must be from 1s to 1h")


def _check_registry(discovery: DiscoverySpec, ref: KeyRef) -> None:
    if not 2 <= discovery.ttl <= MAX_TTL_S:
        raise (ref / "ttl").error("ttl must be from 2s to 1h")
    if (discovery.cert is None) != (discovery.key is None):
        raise (ref / "cert").error("set both cert and key, or neither")
    if discovery.advertise in WILDCARDS:
        raise (ref / "advertise").error(
            f'"{discovery.advertise}" is no address that other machines can reach',
            hint="name one address of this machine, or remove it",
        )
    for name in ("token", "ca", "cert", "namespace", "advertise"):
        if getattr(discovery, name) is not None and discovery.url is None:
            raise (ref / name).error(f"{name} is for a registry", hint="set [discovery] url, or remove it")
    if discovery.url is None:
        return
    from msctl.model.registry_url import RegistryKind, parse_registry_url  # few projects need it

    url = parse_registry_url(discovery.url)
    if discovery.ca is not None and not url.tls:
        raise (ref / "ca").error("ca is for a registry with TLS", hint=f"write {url.kind}s:// in url")
    if discovery.token is not None and url.kind is not RegistryKind.CONSUL:
        raise (ref / "token").error(
            "token is for Consul", hint='etcd wants a user: url = "etcd://user:password@host:2379"'
        )


def _check_announced(spec: ServiceSpec, project: Project, ref: KeyRef) -> None:
    """Refuse to announce to other machines what listens where only this one reaches it."""
    discovery = project.discovery
    if discovery.url is None or not announces(spec, project):
        return
    host = spec.host
    if spec.url is not None:
        if len(spec.urls) > 1 or not spec.urls[0].startswith("http://") or spec.resolve is not None:
            raise (ref / "announce").error("a service with a url is announced if it is one of http://")
        host = spec.urls[0].removeprefix("http://").rpartition(":")[0]
    elif runs_here(spec):
        address = address_of(spec, project)
        if address is None:
            raise (ref / "announce").error(
                "it has no port of its own, at which other machines would reach it",
                hint=f"set port in [services.{spec.name}], or remove announce",
            )
        host = address.host
    if discovery.advertise is None:
        from msctl.model.registry_url import parse_registry_url  # few projects need it

        if parse_registry_url(discovery.url).is_local:
            return  # the address of this machine is known when it runs
    elif is_loopback(discovery.advertise):
        return
    if is_loopback(host):
        table = "gateway" if shares_gateway_port(spec, project) else f"services.{spec.name}"
        raise ref.error(
            f"it is announced to other machines, but listens on {host}, where only this one reaches it",
            hint=f'set host = "0.0.0.0" in [{table}], or announce = false in [services.{spec.name}]',
        )


def _check_variable_names(services: Sequence[ServiceSpec], ref: KeyRef) -> None:
    seen: dict[str, str] = {}
    for spec in services:
        other = seen.setdefault(env_name(spec.name), spec.name)
        if other != spec.name:
            raise (ref / spec.name).error(
                f'"{other}" and "{spec.name}" share the variable {env_name(spec.name)}_URL',
                hint="rename one of them",
            )


def _check_addresses(project: Project, top: KeyRef) -> None:
    """Refuse two listeners on one address, except hosted services on the gateway's port."""
    hint = "give one of them another port"
    problems = Problems()
    for clash in clashes(project):
        other, service = clash.first, clash.second
        if service.name == GATEWAY:
            other, service = service, other
        problems.add(
            _port(service.name, top).error(
                f"port {clash.address.port} is already used by {_title(other.name)}", hint=hint
            )
        )
    problems.check()
    page = project.dashboard
    if page.enabled:
        off = f"{hint}, or switch the dashboard off: [dashboard] enabled = false"
        _check_clash_with(Address(page.host, page.port), "the dashboard", project, top, hint=off)
    _check_clash_with(_broker_address(project.broker), "the broker", project, top, hint=hint)
    if (secure := _amqps_address(project.broker)) is not None:
        _check_clash_with(secure, "the broker's AMQPS", project, top, hint="set another broker.tls.port")


def _check_clash_with(taken: Address, by: str, project: Project, top: KeyRef, *, hint: str) -> None:
    for spec in project.services:
        address = address_of(spec, project)
        if address is not None and address.overlaps(taken):
            raise _port(spec.name, top).error(f"port {address.port} is already used by {by}", hint=hint)


def _port(service: str, top: KeyRef) -> KeyRef:
    return top / GATEWAY / "port" if service == GATEWAY else top / "services" / service / "port"


def _title(service: str) -> str:
    return "the gateway" if service == GATEWAY else f"service {service!r}"


def _broker_address(broker: BrokerSpec) -> Address:
    """The address of a broker on this machine; port 0, which clashes with none, for one elsewhere."""
    url = parse_url(broker.url, any_port=True)
    if broker.mode is BrokerMode.EXTERNAL and not is_loopback(url.host):
        return Address(url.host, 0)
    return Address(url.host, url.port)


def _amqps_address(broker: BrokerSpec) -> Address | None:
    """The address of an embedded broker's second port."""
    if not broker.tls.enabled or broker.mode not in (BrokerMode.AUTO, BrokerMode.EMBEDDED):
        return None
    return Address(parse_url(broker.url, any_port=True).host, broker.tls.port)


def _check_routes(services: Sequence[ServiceSpec], ref: KeyRef, problems: Problems) -> None:
    from msctl.model.routing import conflicts  # a project's name is read without it

    at = [(spec.name, index) for spec in services for index in range(len(spec.routes))]
    for conflict in conflicts([route for spec in services for route in spec.routes]):
        name, index = at[conflict.later]
        problems.add(
            (ref / name / "routes" / index).error(
                conflict.reason, hint="remove one of them, or add hosts, methods or headers"
            )
        )
    names = {spec.name for spec in services}
    for spec in services:
        for index, route in enumerate(spec.routes):
            for other in route.other_services:
                if other not in names:
                    at_route = ref / spec.name / "routes" / index
                    for part in _naming(route, other):
                        at_route = at_route / part
                    hint = did_you_mean(other, names)
                    problems.add(at_route.error(f'unknown service "{other}"', hint=hint))


def _naming(route: RouteSpec, service: str) -> tuple[str, ...]:
    """Return the key of a route, from its table on, that names another service."""
    if service in route.weights:
        return ("weights", service)
    if route.canary is not None and route.canary.service == service:
        return ("canary", "service")
    return ("mirror", "service")


def _check_dependencies(services: Mapping[str, ServiceSpec], ref: KeyRef, problems: Problems) -> None:
    for spec in services.values():
        for index, dependency in enumerate(spec.depends_on):
            here = ref / spec.name / "depends_on"
            at = here / dependency.service
            with problems.noted():
                at = at if at.sources.is_known(at.path) else here / index
                _check_dependency(dependency, services, at)
    if problems:
        return  # a cycle is looked for among services that exist
    cycle = find_cycle(list(services.values()))
    if cycle:
        problems.add(
            (ref / cycle[0] / "depends_on").error(
                f"services depend on each other in a cycle: {' → '.join(cycle)}",
                hint="remove one of these dependencies",
            )
        )


def _check_dependency(dependency: Dependency, services: Mapping[str, ServiceSpec], at: KeyRef) -> None:
    if dependency.service == "broker":
        raise at.error(
            'the broker is not a service; remove "broker"',
            hint="the broker starts before any service, and clients reconnect by themselves",
        )
    target = services.get(dependency.service)
    if target is None:
        raise at.error(
            f'unknown service "{dependency.service}"',
            hint=did_you_mean(dependency.service, services),
        )
    if dependency.condition is Condition.COMPLETED and target.kind is Kind.REMOTE:
        raise at.error(
            f"{target.name} is an external service, whose completion is unknown",
            hint='use the condition "ready", or remove its url',
        )
    if dependency.condition is Condition.COMPLETED and not target.oneshot:
        raise at.error(
            f"{target.name} never completes: it is not a one-shot",
            hint=f'set oneshot = true in [services.{target.name}], or use the condition "ready"',
        )

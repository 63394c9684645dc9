"""The questions asked of a service's declaration, each answered here alone. Pure.

Does it run in the stack's process, does it listen and where, is it probed, how long may it take to
stop, can it be scaled, do two clash? The configuration, the supervisor, the gateway's listeners and the
exports ask here. Order and cycles of dependencies are in dependency_graph.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from msctl.errors import ConfigError, UsageError
from msctl.model.address import Address, is_loopback
from msctl.model.broker_spec import BrokerSpec
from msctl.model.project import Project
from msctl.model.route_policies import HostHeader
from msctl.model.service_policies import HealthSpec
from msctl.model.service_spec import Isolation, ServiceSpec
from msctl.model.snapshots import GATEWAY, Kind

DRAIN_S = 5.0
"""Default stop timeout of a service in the stack's own process: its requests have nowhere else to go."""
STOP_S = 10.0
"""Default stop timeout of a process, from SIGTERM to SIGKILL."""


def as_run(project: Project) -> Project:
    """The project without the keys that a service with a `url` ignores, since it runs elsewhere."""
    return replace(project, services=tuple(map(_as_run, project.services)))


def _as_run(spec: ServiceSpec) -> ServiceSpec:
    if spec.only_discovered:
        return ServiceSpec(
            spec.name,
            discover=True,
            host_header=spec.host_header,
            routes=spec.routes,
            autostart=spec.autostart,
            policy=spec.policy,
        )
    if spec.url is None:
        return spec
    return ServiceSpec(
        spec.name,
        url=",".join(url.rstrip("/") for url in spec.urls),
        replicas=len(spec.urls),
        resolve=spec.resolve,
        host_header=spec.host_header,
        tls=spec.tls,
        routes=spec.routes,
        health=spec.health,
        autostart=spec.autostart,
        discover=spec.discover,
        announce=spec.announce,
        weight=spec.weight,
        policy=spec.policy,
    )


SRV_SCHEME = "srv+"
"""Before the scheme of a URL whose host has SRV records with the addresses and ports."""

RESOLVE_S = 30.0
"""Seconds after which SRV records are looked up again, unless the service says."""


def resolve_every(spec: ServiceSpec) -> float | None:
    """The seconds after which the URL's host is looked up again; None if its addresses do not count."""
    return RESOLVE_S if spec.resolve is None and spec.urls[0].startswith(SRV_SCHEME) else spec.resolve


def is_balanced(spec: ServiceSpec) -> bool:
    """Whether only the gateway knows all instances: at several URLs, by SRV records, or on other machines."""
    return len(spec.urls) > 1 or (spec.url or "").startswith(SRV_SCHEME) or spec.discover


def upstream_host(spec: ServiceSpec, url: str) -> str | None:
    """The Host field of requests to `url` of an external service; None means that of the client.

    By default a name gets its own: what is behind it (a CDN, a hosting provider) knows no other. An address
    and localhost get the client's, as a service of this stack does.
    """
    from urllib.parse import urlsplit  # reading a configuration does not need it

    parts = urlsplit(url.removeprefix(SRV_SCHEME))
    host = parts.hostname or ""
    if url.startswith(SRV_SCHEME) and spec.host_header is None:
        return None  # the name of the records is no host
    is_name = not is_loopback(host) and ":" not in host and not host.rpartition(".")[2].isdecimal()
    wanted = spec.host_header or (HostHeader.UPSTREAM if is_name else HostHeader.CLIENT)
    return parts.netloc.rpartition("@")[2] if wanted is HostHeader.UPSTREAM else None


def runs_here(spec: ServiceSpec) -> bool:
    """Whether the service lives in the stack's own process."""
    return spec.kind is Kind.HOSTED and spec.isolation is Isolation.NONE


def address_of(spec: ServiceSpec, project: Project) -> Address | None:
    """The address that a service is declared to listen on; None for one without a port of its own.

    A hosted service on the gateway's port has the gateway's address.
    """
    gateway = project.gateway
    if gateway is not None and (spec.name == GATEWAY or shares_gateway_port(spec, project)):
        return Address(gateway.host, gateway.port, tls=gateway.tls.enabled)
    return None if spec.port is None or spec.kind is Kind.REMOTE else Address(spec.host, spec.port)


def announces(spec: ServiceSpec, project: Project) -> bool:
    """Whether the instances of a service are announced in the registry, if there is one.

    By default those are that listen on an address of their own.
    """
    if spec.name == GATEWAY or spec.oneshot or spec.only_discovered:
        return False
    if spec.announce is not None:
        return spec.announce
    if spec.url is not None:
        return False
    return listens(spec) if not runs_here(spec) else address_of(spec, project) is not None


def listens(spec: ServiceSpec) -> bool:
    """Whether the service has to accept connections, in a process of its own or in a container.

    Every program finds $PORT; only a port, a route or a health path means that it must listen there.
    """
    declared = spec.port is not None or bool(spec.routes) or spec.routed or _probes_own_port(spec)
    return not spec.oneshot and (declared or spec.command is None)


def _probes_own_port(spec: ServiceSpec) -> bool:
    health = spec.health
    if isinstance(health, HealthSpec):
        return health.port is None and (health.http is not None or health.tcp is True)
    return health is not None


def health_path(spec: ServiceSpec) -> str | None:
    """The path that answers when the service is ready; None if it is not probed by plain HTTP on its port."""
    health = spec.health
    if isinstance(health, HealthSpec):
        return None if health.https or health.port is not None else health.http
    return health


def ready_line(spec: ServiceSpec) -> str | None:
    """The regular expression of the output line that means ready."""
    return spec.health.log if isinstance(spec.health, HealthSpec) and spec.health.log else spec.ready_log


def shell_advice(spec: ServiceSpec) -> str:
    """What to say of a command that has an operator of the shell and runs without one."""
    return (
        f"the command has {spec.shell_operator} but runs without a shell: set shell = true in "
        f"[services.{spec.name}], or quote it"
    )


def probed(spec: ServiceSpec) -> bool:
    """Whether its readiness can be observed, other than by its process being there."""
    return spec.kind is not Kind.COMMAND or listens(spec) or bool(spec.health or spec.ready_log)


def stop_timeout(spec: ServiceSpec) -> float:
    """Seconds that the service may take to stop in a stack: its stop_timeout, else the default of its kind.

    The gateway's is its drain_timeout, which the configuration puts into its spec.
    """
    if spec.stop_timeout is not None:
        return spec.stop_timeout
    return DRAIN_S if runs_here(spec) else STOP_S


def process_stop_timeout(spec: ServiceSpec) -> float:
    """Seconds that a process which runs this service alone may take from SIGTERM to SIGKILL.

    It includes the drain of a hosted service and the cleanup after it.
    """
    return STOP_S if spec.stop_timeout is None else spec.stop_timeout


MAX_REPLICAS = 1000
"""Instances of one service, for `replicas` and for every way to scale."""


def check_count(name: str, count: int) -> None:
    """Raise UsageError unless a service can have so many instances."""
    if not 0 <= count <= MAX_REPLICAS:
        raise UsageError(f"{name}={count}: the number of instances must be from 0 to {MAX_REPLICAS}")


def can_scale(spec: ServiceSpec) -> bool:
    """Whether the service can have another number of instances: it runs in processes of this stack."""
    return spec.kind is not Kind.REMOTE and not runs_here(spec)


def has_default_broker_url(spec: BrokerSpec) -> bool:
    """Whether the broker's URL is the default one, as `msctl init` also writes it."""
    return not spec.url_given or spec.url == BrokerSpec().url


def shares_gateway_port(spec: ServiceSpec, project: Project) -> bool:
    """Whether a hosted service stands behind the gateway's own listener, on purpose."""
    gateway = project.gateway
    return gateway is not None and runs_here(spec) and bool(spec.port) and spec.port == gateway.port


class Clash(NamedTuple):
    """Two services that would listen on one address, in the order of declaration."""

    address: Address
    first: ServiceSpec
    second: ServiceSpec


def clashes(project: Project) -> Iterator[Clash]:
    """Services whose addresses cannot be bound at once; only hosted ones may share one, the gateway's."""
    seen: list[tuple[Address, ServiceSpec]] = []
    for spec in project.services:
        address = address_of(spec, project)
        if address is None:
            continue
        for other_address, other in seen:
            shared = address == other_address and runs_here(spec) and runs_here(other)
            if address.overlaps(other_address) and not (
                shared and project.gateway is not None and address.port == project.gateway.port
            ):
                yield Clash(address, other, spec)
        seen.append((address, spec))


def check(project: Project) -> None:
    """Raise ConfigError for a project that cannot run: address clashes, replicas inside the stack.

    The configuration has checked the same, with lines; this guards projects made in Python.
    """
    for clash in clashes(project):
        raise ConfigError(
            f"{project.source}: services {clash.first.name!r} and {clash.second.name!r} both listen on "
            f"{clash.address}",
            hint="give one of them another port; only hosted services may share one, the gateway's",
        )
    for spec in project.services:
        if spec.replicas > 1 and runs_here(spec):
            raise ConfigError(
                f"{project.source}: service {spec.name!r} runs in the stack's own process and cannot have "
                f"{spec.replicas} replicas",
                hint=f'set isolation = "process" under [services.{spec.name}]',
            )


def shared_variables(project: Project) -> Mapping[str, str]:
    """The variables of `.env` that are for services: neither msctl's own nor keys of guarded routes."""
    return {
        name: value
        for name, value in project.dotenv.items()
        if name not in project.secrets and not name.startswith("MSCTL_") and name != "AMQP_URL"
    }

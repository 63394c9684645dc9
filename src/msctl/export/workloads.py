"""A project as things that run by themselves: what every target needs to know of each service; pure.

Under `msctl up` one process holds hosted services that need no port, share a listener, or find each
other without a network. Taken out, each is a `msctl serve NAME` with an address of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from msctl.config.reading.layers import env_name
from msctl.config.render import to_toml
from msctl.config.schema.values import without_password
from msctl.export.kind import Notice
from msctl.model.address import LOOPBACK, is_loopback, local_host
from msctl.model.project import BrokerSpec, DashboardSpec, Project, ServiceSpec, TlsSpec
from msctl.model.services import listens
from msctl.model.snapshots import GATEWAY, BrokerMode, Kind

CONTAINER_PORT = 8080
"""Where a service listens in a container if the project gives it no port of its own."""
SPARE_PORTS = range(8100, 8400)
"""Ports for services that need one of their own outside of the stack's process, on one machine."""
EVERYWHERE = "0.0.0.0"
BROKER = "rabbitmq"
BROKER_PORT = 5672
AMQP_URL = "AMQP_URL"

_IN_THE_IMAGE = frozenset({"python", "python3", "msctl", "sh"})
_SECRET = re.compile(
    r"(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|(API|PRIVATE|ACCESS|SIGNING)_?KEYS?)$", re.I
)
_URL_WITH_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@]*:[^\s/?#@]+@", re.I)


class HostPort(NamedTuple):
    """Where others reach a service, and so where it listens."""

    host: str
    port: int
    scheme: str = "http"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self}"


def reachable(host: str) -> str:
    """The address at which a program of the same machine finds what listens on `host`."""
    return LOOPBACK if host == "localhost" else local_host(host)


def gateway_scheme(project: Project) -> str:
    """What the gateway speaks on this machine."""
    return "https" if project.gateway is not None and project.gateway.tls.enabled else "http"


@dataclass(frozen=True, slots=True)
class Workload:
    """A service that runs by itself.

    `label` is its name in the target. `variables` are what it must find in its environment so that
    it reaches the others; `secrets` name what it must be given too, but whose values stay out of
    files. `probe` is the path that tells its readiness; None where a connection has to do.
    """

    spec: ServiceSpec
    label: str
    address: HostPort | None
    variables: Mapping[str, str]
    secrets: tuple[str, ...]
    probe: str | None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_gateway(self) -> bool:
        return self.name == GATEWAY

    def serve(self, host: str) -> tuple[str, ...]:
        """The arguments of msctl that run it in the foreground."""
        if self.address is None:
            return ("serve", self.name)
        return ("serve", self.name, "--host", host, "--port", str(self.address.port))


def local_services(project: Project) -> tuple[ServiceSpec, ...]:
    """The services that run in the system itself; one with a `url` runs somewhere else already."""
    return tuple(spec for spec in project.services if spec.url is None)


def container_addresses(project: Project, labels: Mapping[str, str]) -> dict[str, HostPort]:
    """In containers each service has a network of its own: ports stay, and names lead to them."""
    return {
        spec.name: HostPort(labels[spec.name], spec.port or CONTAINER_PORT)
        for spec in local_services(project)
        if listens(spec)
    }


def machine_addresses(project: Project) -> tuple[dict[str, HostPort], tuple[Notice, ...]]:
    """On one machine without the stack's process each service needs a port that no other has."""
    found: dict[str, HostPort] = {}
    notices: list[Notice] = []
    specs = sorted(local_services(project), key=lambda spec: spec.name != GATEWAY)
    wanted = {spec.port for spec in specs if spec.port} | {BROKER_PORT}
    spare = (port for port in SPARE_PORTS if port not in wanted)
    taken: set[int] = set()
    for spec in specs:
        if not listens(spec):
            continue
        port = spec.port if spec.port and spec.port not in taken else next(spare)
        taken.add(port)
        found[spec.name] = HostPort(
            spec.host, port, gateway_scheme(project) if spec.name == GATEWAY else "http"
        )
        if port != spec.port:
            why = (
                f"shares port {spec.port} within one process; by itself it gets {port}"
                if spec.port
                else f"gets port {port}, which the gateway leads to"
            )
            notices.append(Notice(f"services.{spec.name}.port", why))
    return found, tuple(notices)


def workloads(
    project: Project, labels: Mapping[str, str], addresses: Mapping[str, HostPort]
) -> tuple[Workload, ...]:
    """Every service of the project that runs here, in the order of declaration."""
    return tuple(
        Workload(
            spec,
            labels[spec.name],
            addresses.get(spec.name),
            dict(_variables(spec, project, addresses)),
            _secrets(spec, project),
            _probe(spec, project),
        )
        for spec in local_services(project)
    )


def _variables(
    spec: ServiceSpec, project: Project, addresses: Mapping[str, HostPort]
) -> Iterator[tuple[str, str]]:
    for name in _reaches(spec, project):
        other = project.service(name)
        if other is None:
            continue
        if other.url is not None:
            # The configuration has it, which is there for hosted services alone to read.
            if spec.kind is Kind.COMMAND and not _URL_WITH_PASSWORD.match(other.url):
                yield _url_variable(spec, name), other.url
        elif name in addresses:
            yield _url_variable(spec, name), addresses[name].url


def _url_variable(spec: ServiceSpec, other: str) -> str:
    """The variable by which a service finds another.

    A hosted service's is part of its configuration. A program reads its environment itself, and no
    key of the configuration holds the gateway's URL.
    """
    plain = f"{env_name(other)}_URL"
    return plain if spec.kind is Kind.COMMAND or other == GATEWAY else f"MSCTL_{plain}"


def _reaches(spec: ServiceSpec, project: Project) -> Sequence[str]:
    if spec.name == GATEWAY:
        return [other.name for other in project.services if other.routes]
    return [dependency.service for dependency in spec.depends_on]


def is_secret(name: str, value: str) -> bool:
    """Whether a variable's value must not be written down."""
    return bool(_SECRET.search(name) or _URL_WITH_PASSWORD.match(value))


def _secrets(spec: ServiceSpec, project: Project) -> tuple[str, ...]:
    names = [name for name, value in spec.env.items() if is_secret(name, value)]
    for name in _reaches(spec, project):
        other = project.service(name)
        if other is not None and other.url is not None and _URL_WITH_PASSWORD.match(other.url):
            names.append(_url_variable(spec, name))
    if spec.name == GATEWAY:
        names += [
            name for other in project.services for route in other.routes for name in route.key_variables
        ]
    return tuple(dict.fromkeys(names))


def _probe(spec: ServiceSpec, project: Project) -> str | None:
    if spec.name == GATEWAY and project.gateway is not None:
        return project.gateway.ready_path
    return spec.health


def secret_notices(found: Sequence[Workload], where: str) -> Iterator[Notice]:
    """One notice for each service whose secrets the target has to be given by hand."""
    for workload in found:
        if workload.secrets:
            names = ", ".join(workload.secrets)
            key = GATEWAY if workload.is_gateway else f"services.{workload.name}.env"
            yield Notice(key, f"{names}: secrets are not written into files; {where}")


# --- the broker -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BrokerPlan:
    """The broker as services outside of the stack's process find it.

    `is_ours` says that the system brings it along (this machine's broker stays behind); otherwise
    `host` and `port` are those of the configuration. `has_secret` says that its credentials are
    not RabbitMQ's public default, guest and guest.
    """

    is_ours: bool
    scheme: str
    host: str
    port: int
    user: str
    vhost: str
    has_secret: bool

    def url(self, credentials: str, host: str | None = None) -> str:
        """The URL with these credentials (`user:password`), or without any."""
        at = f"{credentials}@" if credentials else ""
        return f"{self.scheme}://{at}{host or self.host}:{self.port}/{self.vhost}"


def broker_plan(broker: BrokerSpec) -> BrokerPlan:
    parts = urlsplit(broker.url)
    host = parts.hostname or "localhost"
    is_ours = is_loopback(host) or broker.mode in (BrokerMode.EMBEDDED, BrokerMode.LOCAL, BrokerMode.DOCKER)
    default = 5671 if parts.scheme == "amqps" else BROKER_PORT
    user, password = parts.username or "guest", parts.password or "guest"
    return BrokerPlan(
        is_ours,
        "amqp" if is_ours else parts.scheme,
        BROKER if is_ours else host,
        BROKER_PORT if is_ours else parts.port or default,
        unquote(user),
        parts.path.removeprefix("/"),
        (user, password) != ("guest", "guest"),
    )


def program_broker(workload: Workload, project: Project) -> dict[str, str]:
    """$AMQP_URL of a program that runs beside the project's own configuration, unless it is a secret."""
    broker = project.broker
    if workload.spec.kind is not Kind.COMMAND or broker_plan(broker).has_secret:
        return {}
    return {AMQP_URL: broker.url}


# --- the configuration that goes along ----------------------------------------------------------


def portable_toml(project: Project) -> tuple[str, tuple[Notice, ...]]:
    """The resolved configuration as a `msctl.toml` for another machine, and what of it stays behind.

    Without secrets, without credentials in URLs, and with folders relative to the project's.
    """
    notices: list[Notice] = []
    services = []
    for spec in project.services:
        cwd = spec.cwd
        if cwd is not None and project.root is not None:
            within = inside(project.root, cwd)
            if within is None:
                notices.append(
                    Notice(f"services.{spec.name}.cwd", f"{cwd} is outside of the project's folder")
                )
            cwd = within or cwd
        env = {name: value for name, value in spec.env.items() if not is_secret(name, value)}
        services.append(replace(spec, cwd=cwd, env=env))
    broker = replace(project.broker, url=_without_credentials(project.broker.url), mode=BrokerMode.EXTERNAL)
    # Only a whole stack has a dashboard; its password stays here.
    dashboard = DashboardSpec(enabled=False)
    gateway = project.gateway
    if gateway is not None and gateway.tls.enabled:
        notices.append(
            Notice("gateway.tls", "left out: the gateway speaks plain HTTP there, behind what ends HTTPS")
        )
        gateway = replace(gateway, tls=TlsSpec())
    portable = replace(project, services=tuple(services), gateway=gateway, broker=broker, dashboard=dashboard)
    return to_toml(portable), tuple(notices)


def _without_credentials(url: str) -> str:
    return re.sub(r"(?<=://)[^\s/?#@]*@", "", without_password(url), count=1)


def inside(root: Path, path: Path) -> Path | None:
    """`path` from the project's folder on; None where it lies elsewhere."""
    root, path = root.absolute(), path.absolute()
    return path.relative_to(root) if path.is_relative_to(root) else None


def image_notices(project: Project) -> Iterator[Notice]:
    """The programs that an image with Python and msctl alone does not have."""
    for spec in local_services(project):
        if spec.command is None or "/" in spec.command[0]:  # a path leads to what the project has itself
            continue
        if spec.command[0] not in _IN_THE_IMAGE:
            yield Notice(
                f"services.{spec.name}.command",
                f'the image has Python and msctl; add "{spec.command[0]}" to the Dockerfile',
            )

"""A project's services as separate processes, as every target runs them. Pure.

Under `msctl up`, hosted services share one process: they need no port, may share a listener, and reach
each other without a network. Exported, each is a `msctl serve NAME` with an address of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msctl.config.reading.layers import env_name
from msctl.config.secret_variables import has_password, secret_variables
from msctl.export.broker import BROKER_PORT
from msctl.export.health import HealthCheck, health_check
from msctl.export.kind import Notice
from msctl.model.address import LOOPBACK, local_host
from msctl.model.project import HealthSpec, Project, ServiceSpec
from msctl.model.services import health_path, listens
from msctl.model.snapshots import GATEWAY, Kind

CONTAINER_PORT = 8080
"""The port in a container of a service without one."""
SPARE_PORTS = range(8100, 8400)
"""Ports on one machine of services without one."""
EVERYWHERE = "0.0.0.0"


class HostPort(NamedTuple):
    """The address of a service."""

    host: str
    port: int
    scheme: str = "http"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self}"


def reachable(host: str) -> str:
    """Return the host with which a program of the same machine connects to a listener on `host`."""
    return LOOPBACK if host == "localhost" else local_host(host)


def gateway_scheme(project: Project) -> str:
    """Return the scheme of the gateway's URL on this machine."""
    return "https" if project.gateway is not None and project.gateway.tls.enabled else "http"


@dataclass(frozen=True, slots=True)
class Workload:
    """A service in a process of its own.

    `label` is its name in the target; `variables` are the URLs of its dependencies; `secrets` names
    further variables, which are never written to files. `health` is how it is probed, if it can be.
    """

    spec: ServiceSpec
    label: str
    address: HostPort | None
    variables: Mapping[str, str]
    secrets: tuple[str, ...]
    health: HealthCheck | None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_gateway(self) -> bool:
        return self.name == GATEWAY

    def serve(self, host: str) -> tuple[str, ...]:
        """Return the arguments of msctl that run it in the foreground."""
        if self.address is None:
            return ("serve", self.name)
        return ("serve", self.name, "--host", host, "--port", str(self.address.port))


def local_services(project: Project) -> tuple[ServiceSpec, ...]:
    """Return the services to export; one with a `url` runs elsewhere already."""
    return tuple(spec for spec in project.services if spec.url is None)


def container_addresses(project: Project, labels: Mapping[str, str]) -> dict[str, HostPort]:
    """Return each service's address in containers: its label is its host, and it keeps its port."""
    return {
        spec.name: HostPort(labels[spec.name], spec.port or CONTAINER_PORT)
        for spec in local_services(project)
        if listens(spec)
    }


def machine_addresses(project: Project) -> tuple[dict[str, HostPort], tuple[Notice, ...]]:
    """Return each service's address as a process of one machine: every service needs a port of its own."""
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
                f"uses port {port}, since it shares {spec.port} with another service of the stack"
                if spec.port
                else f"uses port {port}, behind the gateway"
            )
            notices.append(Notice(f"services.{spec.name}.port", why))
    return found, tuple(notices)


def workloads(
    project: Project, labels: Mapping[str, str], addresses: Mapping[str, HostPort]
) -> tuple[Workload, ...]:
    """Return the project's own services, in the order of declaration."""
    return tuple(
        Workload(
            spec,
            labels[spec.name],
            addresses.get(spec.name),
            dict(_variables(spec, project, addresses)),
            _secrets(spec, project),
            _health(spec, project, addresses.get(spec.name)),
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
            # A hosted service reads it from its configuration.
            if spec.kind is Kind.COMMAND and not has_password(other.url):
                yield _url_variable(spec, name), other.url
        elif name in addresses:
            yield _url_variable(spec, name), addresses[name].url


def _url_variable(spec: ServiceSpec, other: str) -> str:
    """Return the variable with another service's URL.

    For a hosted service it sets a key of the configuration (MSCTL_USERS_URL). A command reads USERS_URL
    itself, and so does every service the gateway's, which no key holds.
    """
    plain = f"{env_name(other)}_URL"
    return plain if spec.kind is Kind.COMMAND or other == GATEWAY else f"MSCTL_{plain}"


def _reaches(spec: ServiceSpec, project: Project) -> Sequence[str]:
    if spec.name == GATEWAY:
        return [other.name for other in project.services if other.routes or other.routed]
    return [dependency.service for dependency in spec.depends_on]


def _secrets(spec: ServiceSpec, project: Project) -> tuple[str, ...]:
    secrets = secret_variables(spec)
    names = [name for name in spec.env if name in secrets]
    for name in _reaches(spec, project):
        other = project.service(name)
        if other is not None and other.url is not None and has_password(other.url):
            names.append(_url_variable(spec, name))
    if spec.name == GATEWAY:
        names += [
            name for other in project.services for route in other.routes for name in route.key_variables
        ]
    return tuple(dict.fromkeys(names))


def _health(spec: ServiceSpec, project: Project, address: HostPort | None) -> HealthCheck | None:
    is_gateway = spec.name == GATEWAY and project.gateway is not None
    path = project.gateway.ready_path if is_gateway and project.gateway is not None else health_path(spec)
    return health_check(spec, None if address is None else address.port, path)


def env_file_paths(spec: ServiceSpec, project: Project) -> tuple[str, ...]:
    """The files of `env_file`, relative to the project's folder where they are in it."""
    root = project.root
    return tuple(
        path.relative_to(root).as_posix() if root is not None and path.is_relative_to(root) else str(path)
        for path in spec.env_file
    )


def restart_notices(spec: ServiceSpec, key: str, target: str) -> Iterator[Notice]:
    """Name the keys of restarts that the target has no word for."""
    if spec.max_restarts is not None:
        yield Notice(f"{key}.max_restarts", f"{target} restarts it any number of times")
    if spec.restart_window is not None:
        yield Notice(f"{key}.restart_window", f"{target} has no such window")


def health_notices(spec: ServiceSpec, key: str, target: str) -> Iterator[Notice]:
    """Name what of `health` the target cannot express."""
    health = spec.health
    if isinstance(health, HealthSpec) and health.log is not None:
        yield Notice(f"{key}.health.log", f"{target} does not read logs; a connection tells that it is ready")
    if isinstance(health, HealthSpec) and any("$" in word.replace("$PORT", "") for word in health.exec or ()):
        yield Notice(f"{key}.health.exec", f"{target} fills in no variables of the service but $PORT")


def secret_notices(found: Sequence[Workload], where: str) -> Iterator[Notice]:
    """Name the secrets that the user must give to the target."""
    for workload in found:
        if workload.secrets:
            names = ", ".join(workload.secrets)
            key = GATEWAY if workload.is_gateway else f"services.{workload.name}.env"
            yield Notice(key, f"{names}: secrets are not written to files; {where}")

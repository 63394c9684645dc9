"""A project's services as separate processes, as every target runs them. Pure.

Under `msctl up`, hosted services share one process: they need no port, may share a listener, and reach
each other without a network. Exported, each is a `msctl serve NAME` with an address of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msctl.config.reading.layers import env_name
from msctl.config.secret_variables import has_password, literal_secrets, secret_references
from msctl.export.health import HealthCheck, health_check
from msctl.model.address import LOOPBACK, bracketed, local_host
from msctl.model.project import Project
from msctl.model.registry_url import parse_registry_url
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import health_path, listens, shared_variables
from msctl.model.snapshots import GATEWAY, Kind
from msctl.model.variables import about

CONTAINER_PORT = 8080
"""The port in a container of a service without one."""
METRICS_PORT = 9464
"""The port in a container of the metrics of its process; OpenTelemetry's default for Prometheus."""
EVERYWHERE = "0.0.0.0"


class HostPort(NamedTuple):
    """The address of a service."""

    host: str
    port: int
    scheme: str = "http"

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"

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

    `label` is its name in the target; `variables` are the addresses of its dependencies. The values of more
    variables are never written to files: `secrets` are those it needs, `optional` those that have a default
    where they are used, `shared` those of the project's `.env`, which every service gets. `health` is how it
    is probed, if it can be.
    """

    spec: ServiceSpec
    label: str
    address: HostPort | None
    variables: Mapping[str, str]
    secrets: tuple[str, ...]
    health: HealthCheck | None
    optional: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_gateway(self) -> bool:
        return self.name == GATEWAY

    @property
    def has_metrics(self) -> bool:
        """Whether msctl runs its program, and so can serve the metrics of its process."""
        return self.spec.kind is Kind.HOSTED and self.address is not None and not self.spec.oneshot

    def serve(self, host: str) -> tuple[str, ...]:
        """Return the arguments of msctl that run it in the foreground."""
        if self.address is None:
            return ("serve", self.name)
        return ("serve", self.name, "--host", host, "--port", str(self.address.port))

    def serve_in_container(self) -> tuple[str, ...]:
        """Return the arguments that run it with its metrics at a port that is not published."""
        metrics = ("--metrics-port", str(METRICS_PORT)) if self.has_metrics else ()
        return (*self.serve(EVERYWHERE), *metrics)


def local_services(project: Project) -> tuple[ServiceSpec, ...]:
    """Return the services to export; one with a `url`, or found in a registry, runs elsewhere already."""
    return tuple(spec for spec in project.services if spec.kind is not Kind.REMOTE)


def container_addresses(project: Project, labels: Mapping[str, str]) -> dict[str, HostPort]:
    """Return each service's address in containers: its label is its host, and it keeps its port."""
    return {
        spec.name: HostPort(labels[spec.name], spec.port or CONTAINER_PORT)
        for spec in local_services(project)
        if listens(spec)
    }


def workloads(
    project: Project, labels: Mapping[str, str], addresses: Mapping[str, HostPort]
) -> tuple[Workload, ...]:
    """Return the project's own services, in the order of declaration."""
    return tuple(_workload(spec, labels[spec.name], project, addresses) for spec in local_services(project))


def _workload(spec: ServiceSpec, label: str, project: Project, addresses: Mapping[str, HostPort]) -> Workload:
    secrets, optional = _secrets(spec, project)
    address = addresses.get(spec.name)
    return Workload(
        spec,
        label,
        address,
        dict(_variables(spec, project, addresses)),
        secrets,
        _health(spec, project, address),
        optional,
        tuple(name for name in shared_variables(project) if name not in (*secrets, *optional)),
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
                yield from about(name, other.urls[0]).items()
        elif name in addresses:
            address = addresses[name]
            url = address.url if other.scheme is None else f"{other.scheme}://{address}"
            if spec.kind is Kind.COMMAND:
                yield from about(name, url).items()
            else:
                yield _url_variable(spec, name), url


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


def _secrets(spec: ServiceSpec, project: Project) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The variables that the service's process must be given, and those that it may be."""
    literal = literal_secrets(spec)
    needed = [name for name in spec.env if name in literal]
    references = [
        each
        for each in secret_references(spec)
        if each.key[0] != "routes" and not (each.key[0] == "env" and each.key[1] in literal)
    ]
    for name in _reaches(spec, project):
        other = project.service(name)
        if other is not None and other.url is not None and has_password(other.url):
            needed.append(_url_variable(spec, name))
    if spec.name == GATEWAY:
        for other in project.services:
            references += [each for each in secret_references(other) if each.key[0] == "routes"]
            needed += [name for route in other.routes for name in route.key_variables]
        needed += _registry_secrets(project)
    needed += [name for each in references for name in sorted(each.required)]
    secrets = tuple(dict.fromkeys(needed))
    named = (name for each in references for name in sorted(each.names))
    return secrets, tuple(dict.fromkeys(name for name in named if name not in secrets))


def _registry_secrets(project: Project) -> Iterator[str]:
    """The variables with which the exported gateway logs in to a registry on another machine."""
    spec = project.discovery
    if spec.url is None or (url := parse_registry_url(spec.url)).is_local:
        return
    if url.user is not None:
        yield "MSCTL_DISCOVERY_URL"
    if spec.token is not None:
        yield "MSCTL_DISCOVERY_TOKEN"


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

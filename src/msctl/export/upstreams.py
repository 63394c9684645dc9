"""Where another proxy finds the services of a stack that runs on this machine; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from msctl.export.kind import ExportError, Notice
from msctl.export.workloads import HostPort, gateway_scheme, reachable
from msctl.model.project import Project, RouteSpec, ServiceSpec
from msctl.model.snapshots import GATEWAY

_AT_THE_GATEWAY = ("compose", "api_key", "jwt", "cors", "request_headers", "response_headers")


@dataclass(frozen=True, slots=True)
class ProxyTarget:
    """What a route leads to. Behind `is_gateway` the request's path must stay as it is."""

    service: str
    address: HostPort
    scheme: str = "http"
    is_gateway: bool = False


def upstream(project: Project, route: RouteSpec) -> tuple[ProxyTarget, tuple[Notice, ...]]:
    """Where the route's requests go, and what that leaves to msctl's own gateway.

    What only the gateway can do (checking keys, composing answers), and services that it alone
    reaches, stay with it: the other proxy passes such requests on to it. Raises ExportError where
    there is no gateway.
    """
    key = f"services.{route.service}" if route.service else "gateway"
    own = [name for name in _AT_THE_GATEWAY if getattr(route, name) is not None]
    if own:
        text = f"{route.path}: left to msctl's gateway, to which these requests are passed on"
        notices = tuple(Notice(f"{key}.routes.{name}", text) for name in own)
        return _gateway(project, notices[0].key), notices
    spec = project.service(route.service)
    if spec is None:
        return _gateway(project, f"{key}.routes"), ()
    if spec.url is not None:
        return _remote(spec), tuple(_remote_notices(spec))
    gateway = project.gateway
    if gateway is not None and spec.port == gateway.port and spec.port:
        return _gateway(project, f"{key}.port"), ()  # one listener for both
    if spec.port and spec.replicas == 1:
        return ProxyTarget(spec.name, HostPort(reachable(spec.host), spec.port)), ()
    if spec.replicas > 1:
        why = f"its {spec.replicas} instances choose their ports; they are reached through msctl's gateway"
        return _gateway(project, f"{key}.replicas"), (Notice(f"{key}.replicas", why),)
    why = "it has no port of its own; it is reached through msctl's gateway"
    return _gateway(project, f"{key}.port"), (Notice(f"{key}.port", why),)


def _gateway(project: Project, key: str) -> ProxyTarget:
    gateway = project.gateway
    if gateway is None or not gateway.port:
        raise ExportError(
            f"{key}: nothing but msctl's gateway leads there, and that has no fixed port",
            hint="give the service a port, or the gateway",
        )
    address = HostPort(reachable(gateway.host), gateway.port)
    return ProxyTarget(GATEWAY, address, gateway_scheme(project), is_gateway=True)


def _remote(spec: ServiceSpec) -> ProxyTarget:
    parts = urlsplit(spec.url or "")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return ProxyTarget(spec.name, HostPort(parts.hostname or "", port), parts.scheme)


def _remote_notices(spec: ServiceSpec) -> Iterator[Notice]:
    parts = urlsplit(spec.url or "")
    if parts.path.strip("/"):
        yield Notice(f"services.{spec.name}.url", f"the path {parts.path} is left out")
    if parts.username:
        yield Notice(f"services.{spec.name}.url", "its user and password are left out")


def routes_of(project: Project) -> tuple[RouteSpec, ...]:
    """Every route of the project, in the order of declaration."""
    return tuple(route for spec in project.services for route in spec.routes)

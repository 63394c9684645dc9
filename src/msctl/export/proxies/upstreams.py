"""The addresses at which another proxy reaches a stack on this machine. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from msctl.export.kind import ExportError, Notice
from msctl.export.workloads import HostPort, gateway_scheme, reachable
from msctl.model.project import Project, RouteSpec, ServiceSpec
from msctl.model.snapshots import GATEWAY

_GATEWAY_ONLY = ("compose", "api_key", "jwt", "cors", "request_headers", "response_headers")


@dataclass(frozen=True, slots=True)
class ProxyTarget:
    """The destination of a route. With `is_gateway` the path must not be rewritten."""

    service: str
    address: HostPort
    scheme: str = "http"
    is_gateway: bool = False


def upstream(project: Project, route: RouteSpec) -> tuple[ProxyTarget, tuple[Notice, ...]]:
    """Return the destination of a route, and notices of what is left to msctl's gateway.

    Requests that need the gateway (keys, composed responses), and those for services that only it can
    reach, are passed to it. Raises ExportError if it has no fixed port.
    """
    key = f"services.{route.service}" if route.service else "gateway"
    own = [name for name in _GATEWAY_ONLY if getattr(route, name) is not None]
    if own:
        text = f"{route.path}: these requests are passed to msctl's gateway, which does this"
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
        why = f"its {spec.replicas} instances have no fixed ports; it is reached through msctl's gateway"
        return _gateway(project, f"{key}.replicas"), (Notice(f"{key}.replicas", why),)
    why = "it has no port; it is reached through msctl's gateway"
    return _gateway(project, f"{key}.port"), (Notice(f"{key}.port", why),)


def _gateway(project: Project, key: str) -> ProxyTarget:
    gateway = project.gateway
    if gateway is None or not gateway.port:
        raise ExportError(
            f"{key}: only msctl's gateway can reach it, and the gateway has no fixed port",
            hint="set a port for the service or the gateway",
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
        yield Notice(f"services.{spec.name}.url", "the user and password are left out")


def routes_of(project: Project) -> tuple[RouteSpec, ...]:
    """Return all routes, in the order of declaration."""
    return tuple(route for spec in project.services for route in spec.routes)

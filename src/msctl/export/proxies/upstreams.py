"""The addresses at which another proxy reaches a stack on this machine. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from msctl.config.secret_variables import is_secret
from msctl.export.kind import ExportError, Notice
from msctl.export.workloads import HostPort, gateway_scheme, reachable
from msctl.model.address import is_loopback
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_policies import UpstreamTlsSpec
from msctl.model.route_spec import OF_THE_CONNECTION, HeaderEdit, RouteSpec
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import SRV_SCHEME, upstream_host
from msctl.model.snapshots import GATEWAY

_GATEWAY_ONLY = (
    "compose",
    "api_key",
    "jwt",
    "basic_auth",
    "forward_auth",
    "cors",
    "request_headers",
    "response_headers",
    "weights",
    "canary",
    "mirror",
    "static",
)

FRAMING = OF_THE_CONNECTION | {"host"}
"""Request fields that a proxy writes itself."""
OWN_RESPONSE_FIELDS = OF_THE_CONNECTION | {"content-type", "date", "server", "x-request-id"}
"""Response fields that a proxy writes itself, or would add a second time."""
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie"})


@dataclass(frozen=True, slots=True)
class ProxyTarget:
    """The destination of a route. With `is_gateway` the path must not be rewritten.

    `more` are the addresses of further instances, `host` is the Host field unless it is the client's, `tls`
    the verification of an https one. `weights` are those of all addresses, if they differ.
    """

    service: str
    address: HostPort
    scheme: str = "http"
    is_gateway: bool = False
    more: tuple[HostPort, ...] = ()
    host: str | None = None
    tls: UpstreamTlsSpec | None = None
    weights: tuple[int, ...] = ()

    @property
    def addresses(self) -> tuple[HostPort, ...]:
        return (self.address, *self.more)

    @property
    def server_name(self) -> str:
        """The name that the certificate must have."""
        return (self.tls and self.tls.server_name) or self.address.host


def upstream(
    project: Project, route: RouteSpec, expressed: Collection[str] = ()
) -> tuple[ProxyTarget, tuple[Notice, ...]]:
    """Return the destination of a route, and notices of what is left to msctl's gateway.

    `expressed` are keys of the route that the proxy itself does.

    Requests that need the gateway (keys, composed responses), and those for services that only it can
    reach, are passed to it. Raises ExportError if it has no fixed port.
    """
    key = f"services.{route.service}" if route.service else "gateway"
    weighted = _weighted(project, route) if route.weights else None
    if weighted is not None:
        expressed = {*expressed, "weights"}
    notices = left_to_gateway(route, expressed)
    if notices:
        return gateway_target(project, notices[0].key), notices
    if weighted is not None:
        return weighted, ()
    spec = project.service(route.service)
    if spec is None:
        return gateway_target(project, f"{key}.routes"), ()
    if spec.url is not None and spec.url.startswith(SRV_SCHEME):
        text = f"{route.path}: these requests are passed to msctl's gateway, which looks up SRV records"
        return gateway_target(project, f"{key}.url"), (Notice(f"{key}.url", text),)
    if spec.discover:
        text = f"{route.path}: these requests are passed to msctl's gateway, which knows all machines"
        return gateway_target(project, f"{key}.discover"), (Notice(f"{key}.discover", text),)
    if spec.url is not None:
        return _remote(spec), tuple(_remote_notices(spec))
    gateway = project.gateway
    if gateway is not None and spec.port == gateway.port and spec.port:
        return gateway_target(project, f"{key}.port"), ()  # one listener for both
    if spec.port and spec.replicas == 1:
        return ProxyTarget(spec.name, HostPort(reachable(spec.host), spec.port)), ()
    if spec.replicas > 1:
        why = f"its {spec.replicas} instances have no fixed ports; it is reached through msctl's gateway"
        return gateway_target(project, f"{key}.replicas"), (Notice(f"{key}.replicas", why),)
    why = "it has no port; it is reached through msctl's gateway"
    return gateway_target(project, f"{key}.port"), (Notice(f"{key}.port", why),)


def left_to_gateway(route: RouteSpec, expressed: Collection[str]) -> tuple[Notice, ...]:
    """Return a notice for each key of a route that only msctl's gateway does."""
    names = [
        name for name in _GATEWAY_ONLY if name not in expressed and getattr(route, name) not in (None, {})
    ]
    return tuple(passed_on(route, name) for name in names)


def passed_on(route: RouteSpec, name: str) -> Notice:
    """Return the notice of a key for which the requests of a route are passed to msctl's gateway."""
    key = f"services.{route.service}" if route.service else "gateway"
    text = f"{route.path}: these requests are passed to msctl's gateway, which does this"
    return Notice(f"{key}.routes.{name}", text)


def holds_secret(project: Project, route: RouteSpec, name: str) -> bool:
    """Whether a key of a route has a value that must not be written: from a variable, or a credential."""
    spec = project.service(route.service)
    found = getattr(route, name)
    if isinstance(found, HeaderEdit):
        values = {key: value for table in (found.set, found.add) for key, value in table.items()}
        if any(
            key.lower() in _CREDENTIALS or is_secret(key.replace("-", "_"), value)
            for key, value in values.items()
        ):
            return True
        texts = set(values.values())
    else:
        texts = {str(getattr(found, "url", ""))}
    return spec is not None and any(name in each.key and each.value in texts for each in spec.references)


def edited_names(edit: HeaderEdit | None) -> set[str]:
    """Return the names of the fields that are edited, in lower case."""
    return set() if edit is None else {name.lower() for name in (*edit.remove, *edit.set, *edit.add)}


def behind_notices(gateway: GatewaySpec, proxy: str) -> Iterator[Notice]:
    """Say what msctl's gateway must know of a proxy that passes requests to it."""
    if not is_loopback(gateway.host):
        return
    if gateway.hosts is None:
        text = "msctl's gateway refuses other hosts than localhost and those of routes: name yours here"
        yield Notice("gateway.hosts", text)
    if not gateway.trusted_peers:
        text = f"{proxy} is the client of what it passes to msctl's gateway: add its address here"
        yield Notice("gateway.trusted_peers", text)


def direct(project: Project, name: str) -> ProxyTarget | None:
    """Return the destination of a service; None if only msctl's gateway reaches it."""
    spec = project.service(name)
    if spec is None or spec.discover or not (spec.port or spec.url) or spec.replicas > 1:
        return None
    if (spec.url or "").startswith(SRV_SCHEME):
        return None
    found, _ = upstream(project, RouteSpec("/", name))
    return None if found.is_gateway else found


def alike(one: ProxyTarget, two: ProxyTarget) -> bool:
    """Whether requests to both differ in nothing but the address."""
    return (one.scheme, one.host, one.tls) == (two.scheme, two.host, two.tls)


def _weighted(project: Project, route: RouteSpec) -> ProxyTarget | None:
    """Return the services of a route by their weights; None if they cannot be reached alike."""
    weights = {name: weight for name, weight in route.weights.items() if weight}
    found = [target for name in weights if (target := direct(project, name)) is not None and not target.more]
    if len(found) < len(weights) or not all(alike(one, found[0]) for one in found):
        return None
    name = "-".join(f"{name}-{weight}" for name, weight in weights.items())
    more = tuple(one.address for one in found[1:])
    return replace(found[0], service=name, more=more, weights=tuple(weights.values()))


def gateway_target(project: Project, key: str) -> ProxyTarget:
    gateway = project.gateway
    if gateway is None or not gateway.port:
        raise ExportError(
            f"{key}: only msctl's gateway can reach it, and the gateway has no fixed port",
            hint="set a port for the service or the gateway",
        )
    address = HostPort(reachable(gateway.host), gateway.port)
    return ProxyTarget(GATEWAY, address, gateway_scheme(project), is_gateway=True)


def _remote(spec: ServiceSpec) -> ProxyTarget:
    addresses: list[HostPort] = []
    scheme = "http"
    for url in spec.urls:
        parts = urlsplit(url)
        scheme = parts.scheme
        port = parts.port or (443 if scheme == "https" else 80)
        addresses.append(HostPort(parts.hostname or "", port))
    tls = (spec.tls or UpstreamTlsSpec()) if scheme == "https" else None
    host = upstream_host(spec, spec.urls[0])
    return ProxyTarget(spec.name, addresses[0], scheme, False, tuple(addresses[1:]), host, tls)


def _remote_notices(spec: ServiceSpec) -> Iterator[Notice]:
    parts = urlsplit(spec.urls[0])
    if len(spec.urls) > 1 and upstream_host(spec, spec.urls[0]) is not None:
        text = "every address gets the Host field of the first URL"
        yield Notice(f"services.{spec.name}.host_header", text)
    if spec.resolve is not None:
        text = "the name is looked up when the proxy starts, and when it is reloaded"
        yield Notice(f"services.{spec.name}.resolve", text)
    if parts.path.strip("/"):
        yield Notice(f"services.{spec.name}.url", f"the path {parts.path} is left out")
    if parts.username:
        yield Notice(f"services.{spec.name}.url", "the user and password are left out")


def routes_of(project: Project) -> tuple[RouteSpec, ...]:
    """Return all routes, in the order of declaration."""
    return tuple(route for spec in project.services for route in spec.routes)

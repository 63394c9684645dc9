"""`kong`: declarative configuration for Kong 3, in front of a stack on this machine.

It names no plugin of the Enterprise edition. Passwords, API keys and the secrets of tokens would be in clear
in the file, so requests that need them are passed to msctl's gateway.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace

from msctl.export.kind import ExportError, ExportKind, ExportOptions, File, Item, Notice
from msctl.export.names import label, project_label
from msctl.export.proxies.kong_plugins import (
    can_allow,
    can_edit_request,
    can_edit_response,
    plugin_differences,
    plugins,
    size_limit,
)
from msctl.export.proxies.precedence import Pattern, pattern_of
from msctl.export.proxies.upstreams import (
    ProxyTarget,
    alike,
    behind_notices,
    direct,
    gateway_target,
    holds_secret,
    passed_on,
    routes_of,
    upstream,
)
from msctl.export.yaml import dump
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_policies import StickySpec
from msctl.model.route_spec import RouteSpec
from msctl.model.routing import is_variable
from msctl.model.services import health_path
from msctl.model.upstream_policy import Balance, UpstreamPolicy, first_set

FORMAT = "3.0"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_LONGEST_RETRIES = 32767
_LONGEST_SILENCE = 3600.0
"""Seconds for what has no limit, which Kong has no word for."""
_HIGHEST_WEIGHT = 65535
_PLAIN_TEXT = re.compile(r"(?!~\*).*", re.DOTALL)


class _Balancers:
    """Kong's upstreams, each once: addresses, and how one is chosen."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._gateway = project.gateway or GatewaySpec()
        self._found: dict[tuple[ProxyTarget, StickySpec | None, Balance], str] = {}

    def name(self, found: ProxyTarget, route: RouteSpec) -> str:
        """Return the name of the upstream for a route."""
        spec = self._project.service(route.service)
        service = UpstreamPolicy() if spec is None or found.is_gateway else spec.policy
        own = UpstreamPolicy() if found.is_gateway else route.policy
        sticky = own.sticky or service.sticky
        if found.weights and (sticky is None or sticky.cookie is None):
            sticky = None  # a service is chosen by weight, and has one instance
        key = (found, sticky, own.balance or service.balance or self._gateway.balance)
        if key not in self._found:
            base = name = f"{project_label(self._project)}.{label(found.service)}.upstream"
            number = 2
            while name in self._found.values():
                name, number = f"{base}-{number}", number + 1
            self._found[key] = name
        return self._found[key]

    def documents(self) -> Iterator[dict[str, object]]:
        for (found, sticky, balance), name in self._found.items():
            yield {
                "name": name,
                "algorithm": "least-connections" if balance is Balance.LEAST_LOADED else "round-robin",
                **_hashing(sticky),
                **({} if found.host is None else {"host_header": found.host}),
                "healthchecks": {"active": self._probe(found)},
                "targets": [
                    {"target": str(address), "weight": weight}
                    for address, weight in zip(found.addresses, _weights(found), strict=True)
                ],
            }

    def _probe(self, found: ProxyTarget) -> dict[str, object]:
        spec = self._project.service(found.service)
        path = self._gateway.ready_path if found.is_gateway else (health_path(spec) if spec else None)
        return {
            "type": "tcp" if path is None else found.scheme,
            **({} if path is None else {"http_path": path}),
            "timeout": 1,
            "healthy": {"interval": 10, "successes": 1},
            "unhealthy": {"interval": 1, "tcp_failures": 3, "timeouts": 3, "http_failures": 3},
        }


def render(project: Project, options: ExportOptions) -> Iterator[Item]:  # noqa: ARG001 - the signature of a kind
    routes = routes_of(project)
    if not routes:
        raise ExportError(
            "services: no service has routes, so Kong would have nothing to lead to",
            hint='add a route to a service: routes = ["/orders"]',
        )
    gateway = project.gateway or GatewaySpec()
    notices: list[Notice] = []
    balancers = _Balancers(project)
    services: dict[str, dict[str, object]] = {}
    has_methods = any(route.methods for route in routes)
    is_used = False
    order = {id(route): rank for rank, route in enumerate(sorted(routes, key=_precedence, reverse=True))}
    for number, route in enumerate(routes):
        found, more = _upstream(project, route)
        is_used = is_used or found.is_gateway
        notices += [*more, *_differences(route, found), *_tls_differences(found)]
        spec = project.service(route.service)
        policy = UpstreamPolicy() if spec is None else spec.policy
        name, service = _service(route, found, balancers.name(found, route), policy, gateway, number)
        services.setdefault(name, service)
        kept = services[name]["routes"]
        if not isinstance(kept, list):
            raise TypeError("a service without routes")
        kept.append(_route(route, found, name, policy, number, order[id(route)], has_methods=has_methods))
    if gateway.max_body:  # of each service: one for all of Kong would hold for other projects too
        for service in services.values():
            service["plugins"] = [size_limit(gateway.max_body)]
    document: dict[str, object] = {
        "_format_version": FORMAT,
        "services": list(services.values()),
        "upstreams": list(balancers.documents()),
    }
    yield File("kong.yaml", dump(document, comment=_comment(project)))
    yield from notices
    if is_used:
        yield from behind_notices(gateway, "Kong")
    if gateway.trusted_peers:
        text = "set trusted_ips in kong.conf: Kong trusts nobody, and appends to the X-Forwarded-For it gets"
        yield Notice("gateway.trusted_peers", text)
    if gateway.openapi is not None:
        yield Notice("gateway.openapi", "Kong joins no OpenAPI documents")
    if any(route.headers or route.hosts for route in routes) and len(routes) > 1:
        yield Notice(
            "services.*.routes",
            "Kong prefers a route that asks for more (hosts, headers) to one with a longer path",
        )


def _comment(project: Project) -> str:
    return "\n".join(
        (
            f"{project.name}: the routes of the project's gateway, for a stack on this machine.",
            "",
            "  docker run --rm --network host -e KONG_DATABASE=off -e KONG_DECLARATIVE_CONFIG=/kong.yaml \\",
            '    -v "$PWD/kong.yaml:/kong.yaml:ro" kong:3.9',
            "",
            "Beside other projects, in a Kong with a database:",
            "",
            f"  deck gateway sync --select-tag {project_label(project)} kong.yaml",
        )
    )


def _upstream(project: Project, route: RouteSpec) -> tuple[ProxyTarget, tuple[Notice, ...]]:
    if route.redirect is not None:  # a plugin of Kong's latest versions alone
        notice = passed_on(route, "redirect")
        return gateway_target(project, notice.key), (notice,)
    canary = _canary(project, route)
    able = {
        "cors": can_allow(route.cors),
        "request_headers": can_edit_request(route.request_headers),
        "response_headers": can_edit_response(route.response_headers),
        "canary": canary is not None,
    }
    expressed = {name for name, can in able.items() if can and not holds_secret(project, route, name)}
    found, notices = upstream(project, route, expressed)
    if canary is not None and not found.is_gateway and not notices:
        return canary, ()
    return found, notices


def _canary(project: Project, route: RouteSpec) -> ProxyTarget | None:
    """Return the addresses of a service and its canary by weight; None unless chance alone decides."""
    spec = route.canary
    if spec is None or spec.header is not None or spec.cookie is not None:
        return None
    stable, canary = direct(project, route.service), direct(project, spec.service)
    if stable is None or canary is None or not alike(stable, canary):
        return None
    parts = [(1 - spec.share) / len(stable.addresses)] * len(stable.addresses)
    parts += [spec.share / len(canary.addresses)] * len(canary.addresses)
    weights = tuple(round(part * _HIGHEST_WEIGHT) for part in parts)
    name = f"{stable.service}-canary-{canary.service}"
    return replace(stable, service=name, more=(*stable.more, *canary.addresses), weights=weights)


def _precedence(route: RouteSpec) -> tuple[tuple[int, ...], int, int]:
    return pattern_of(route).rank, not route.methods, -len(route.headers)


def _service(
    route: RouteSpec,
    found: ProxyTarget,
    balancer: str,
    policy: UpstreamPolicy,
    gateway: GatewaySpec,
    number: int,
) -> tuple[str, dict[str, object]]:
    own = route.policy
    name = balancer.removesuffix(".upstream").replace(".upstream-", "-upstream-")
    rewrite = route.rewrite if not found.is_gateway else None
    if found.is_gateway:  # it retries, connects, and ends a request itself
        idles = [first_set(own.idle_timeout, policy.idle_timeout, gateway.idle_timeout), gateway.idle_timeout]
        longest = max(idles) if all(idles) else 0.0
        own = UpstreamPolicy(idle_timeout=longest)
        policy = UpstreamPolicy()
        special = own.idle_timeout != gateway.idle_timeout
    else:
        special = rewrite is not None or any(
            value is not None for value in (own.connect_timeout, own.idle_timeout, own.retries)
        )
    if special:  # Kong sets these on a service, not on a route
        name = f"{name}-{number}"
    retries = first_set(own.retries, policy.retries, gateway.retries)
    idle = first_set(own.idle_timeout, policy.idle_timeout, gateway.idle_timeout) or _LONGEST_SILENCE
    connect = first_set(own.connect_timeout, policy.connect_timeout, gateway.connect_timeout)
    return name, {
        "name": name,
        "protocol": found.scheme,
        "host": balancer,
        "port": found.address.port,
        **({} if found.tls is None else {"tls_verify": found.tls.verify}),
        **({"path": rewrite} if rewrite not in (None, "/") else {}),
        "retries": min(retries, _LONGEST_RETRIES),
        "connect_timeout": _millis(connect),
        "read_timeout": _millis(idle),
        "write_timeout": _millis(idle),
        "routes": [],
    }


def _route(
    route: RouteSpec,
    found: ProxyTarget,
    service: str,
    policy: UpstreamPolicy,
    number: int,
    rank: int,
    *,
    has_methods: bool,
) -> dict[str, object]:
    # Kong prefers routes with methods to those without: if one has them, all must.
    methods = list(route.methods) or (list(_METHODS) if has_methods else [])
    if route.cors is not None and methods and "OPTIONS" not in methods:
        methods.append("OPTIONS")  # its plugin answers preflights of routes that match them
    strips = not found.is_gateway and (route.strip_prefix or route.rewrite is not None)
    own = plugins(route if not found.is_gateway else RouteSpec("", "", policy=route.policy), policy.max_body)
    return {
        "name": f"{service}-route-{number}",
        "protocols": ["http", "https"],
        "paths": [_path(pattern_of(route))],
        "regex_priority": rank,
        **({"methods": methods} if methods else {}),
        **({"hosts": list(route.hosts)} if route.hosts else {}),
        **(
            {"headers": {name: [_value(text)] for name, text in route.headers.items()}}
            if route.headers
            else {}
        ),
        "strip_path": strips,
        "preserve_host": found.host is None,
        "request_buffering": False,
        "response_buffering": False,
        **({"plugins": own} if own else {}),
    }


def _value(text: str) -> str:
    """Return the value of a field that a route asks for; one that begins with ~* is a regular expression."""
    return text if _PLAIN_TEXT.fullmatch(text) else f"~*^{re.escape(text)}$"


def _path(pattern: Pattern) -> str:
    """Return a regular expression: Kong's plain prefixes do not end at an element."""
    if not pattern.elements:
        return "~/$" if pattern.exact else "/"
    parts = ("[^/]+" if is_variable(element) else re.escape(element) for element in pattern.elements)
    return f"~/{'/'.join(parts)}{'$' if pattern.exact else '(?:/|$)'}"


def _weights(found: ProxyTarget) -> list[int]:
    """Return the weight of each address, scaled to what Kong takes."""
    if not found.weights:
        return [100] * len(found.addresses)
    scale = min(1.0, _HIGHEST_WEIGHT / max(found.weights))
    return [max(1, round(weight * scale)) if weight else 0 for weight in found.weights]


def _hashing(sticky: StickySpec | None) -> dict[str, object]:
    if sticky is None:
        return {}
    if sticky.cookie is not None:
        return {"algorithm": "consistent-hashing", "hash_on": "cookie", "hash_on_cookie": sticky.cookie}
    if sticky.header is not None:
        return {"algorithm": "consistent-hashing", "hash_on": "header", "hash_on_header": sticky.header}
    return {"algorithm": "consistent-hashing", "hash_on": "ip"}


def _differences(route: RouteSpec, found: ProxyTarget) -> Iterator[Notice]:
    key = f"services.{route.service}.routes"
    if any(value.lower() != value.upper() for value in route.headers.values()):
        yield Notice(f"{key}.headers", "Kong compares values without regard to case")
    if found.is_gateway:
        return
    yield from plugin_differences(route)
    if route.policy.response_timeout is not None:
        yield Notice(f"{key}.response_timeout", "Kong has one timeout for headers and body: idle_timeout")


def _tls_differences(found: ProxyTarget) -> Iterator[Notice]:
    tls = found.tls
    if tls is None:
        return
    for name in ("ca", "server_name", "cert"):
        if getattr(tls, name) is not None:
            text = "Kong keeps certificates as entities of its own; the name is the host of its upstream"
            yield Notice(f"services.{found.service}.tls.{name}", text)


def _millis(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))


KIND = ExportKind("kong", "Kong's declarative configuration, in front of a stack on this machine", render)

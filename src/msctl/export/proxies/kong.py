"""`kong`: declarative configuration for Kong 3, in front of a stack on this machine."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace

from msctl.export.kind import ExportError, ExportKind, ExportOptions, File, Item, Notice
from msctl.export.names import label
from msctl.export.proxies.precedence import Pattern, pattern_of
from msctl.export.proxies.upstreams import ProxyTarget, routes_of, upstream
from msctl.export.yaml import dump
from msctl.model.project import (
    Balance,
    GatewaySpec,
    Project,
    RateLimitKey,
    RateLimitSpec,
    RouteSpec,
    UpstreamPolicy,
)
from msctl.model.route_policies import StickySpec
from msctl.model.routing import is_variable
from msctl.model.services import health_path

FORMAT = "3.0"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_PERIODS = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}
_LIMIT_BY = {
    RateLimitKey.CLIENT: "ip",
    RateLimitKey.CREDENTIAL: "credential",
    RateLimitKey.HEADER: "header",
    RateLimitKey.ROUTE: "service",
}
_LONGEST_RETRIES = 32767
_HIGHEST_WEIGHT = 65535


def render(project: Project, options: ExportOptions) -> Iterator[Item]:  # noqa: ARG001 - the signature of a kind
    routes = routes_of(project)
    if not routes:
        raise ExportError(
            "services: no service has routes, so Kong would have nothing to lead to",
            hint='add a route to a service: routes = ["/orders"]',
        )
    gateway = project.gateway or GatewaySpec()
    notices: list[Notice] = []
    upstreams: dict[str, ProxyTarget] = {}
    services: dict[str, dict[str, object]] = {}
    has_methods = any(route.methods for route in routes)
    order = {id(route): rank for rank, route in enumerate(sorted(routes, key=_precedence, reverse=True))}
    for number, route in enumerate(routes):
        found, more = _upstream(project, route)
        notices += [*more, *_differences(route), *_tls_differences(found)]
        upstreams.setdefault(found.service, found)
        name, service = _service(route, found, gateway, number)
        services.setdefault(name, service)
        kept = services[name]["routes"]
        if not isinstance(kept, list):
            raise TypeError("a service without routes")
        kept.append(_route(route, found, name, number, order[id(route)], has_methods=has_methods))
    document: dict[str, object] = {
        "_format_version": FORMAT,
        "services": list(services.values()),
        "upstreams": [_balancer(found, project, gateway) for found in upstreams.values()],
    }
    if gateway.max_body:
        document["plugins"] = [
            {
                "name": "request-size-limiting",
                "config": {"allowed_payload_size": gateway.max_body, "size_unit": "bytes"},
            }
        ]
    yield File("kong.yaml", dump(document, comment=_comment(project)))
    yield from notices
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
        )
    )


def _upstream(project: Project, route: RouteSpec) -> tuple[ProxyTarget, tuple[Notice, ...]]:
    if route.redirect is None:
        return upstream(project, route)
    # Redirects in Kong need a plugin that only its latest versions have.
    key = f"services.{route.service}.routes.redirect" if route.service else "gateway.routes.redirect"
    found, _ = upstream(project, replace(route, redirect=None, service=""))
    return found, (
        Notice(key, f"{route.path}: these requests are passed to msctl's gateway, which does this"),
    )


def _precedence(route: RouteSpec) -> tuple[tuple[int, ...], int, int]:
    return pattern_of(route).rank, not route.methods, -len(route.headers)


def _service(
    route: RouteSpec, found: ProxyTarget, gateway: GatewaySpec, number: int
) -> tuple[str, dict[str, object]]:
    own = route.policy
    name = label(found.service)
    rewrite = route.rewrite if not found.is_gateway else None
    special = rewrite is not None or any(
        value is not None for value in (own.connect_timeout, own.idle_timeout, own.retries)
    )
    if special and not found.is_gateway:  # Kong sets these on a service, not on a route
        name = f"{name}-{number}"
    else:
        own = type(own)()
    retries = gateway.retries if own.retries is None else own.retries
    idle = _first(own.idle_timeout, gateway.idle_timeout)
    return name, {
        "name": name,
        "protocol": found.scheme,
        "host": _balancer_name(found),
        "port": found.address.port,
        **({} if found.tls is None else {"tls_verify": found.tls.verify}),
        **({"path": rewrite} if rewrite not in (None, "/") else {}),
        "retries": min(retries, _LONGEST_RETRIES),
        "connect_timeout": _millis(_first(own.connect_timeout, gateway.connect_timeout)),
        "read_timeout": _millis(idle),
        "write_timeout": _millis(idle),
        "routes": [],
    }


def _route(
    route: RouteSpec, found: ProxyTarget, service: str, number: int, rank: int, *, has_methods: bool
) -> dict[str, object]:
    # Kong prefers routes with methods to those without: if one has them, all must.
    methods = list(route.methods) or (list(_METHODS) if has_methods else [])
    strips = not found.is_gateway and (route.strip_prefix or route.rewrite is not None)
    document: dict[str, object] = {
        "name": f"{service}-route-{number}",
        "protocols": ["http", "https"],
        "paths": [_path(pattern_of(route))],
        "regex_priority": rank,
        **({"methods": methods} if methods else {}),
        **({"hosts": list(route.hosts)} if route.hosts else {}),
        **({"headers": {name: [value] for name, value in route.headers.items()}} if route.headers else {}),
        "strip_path": strips,
        "preserve_host": found.host is None,
        "request_buffering": False,
        "response_buffering": False,
    }
    if route.rate_limit is not None and not found.is_gateway:
        document["plugins"] = [_rate_limit(route.rate_limit)]
    if route.policy.max_body and not found.is_gateway:
        limit = {
            "name": "request-size-limiting",
            "config": {"allowed_payload_size": route.policy.max_body, "size_unit": "bytes"},
        }
        plugins = document.setdefault("plugins", [])
        if isinstance(plugins, list):
            plugins.append(limit)
    return document


def _path(pattern: Pattern) -> str:
    """Return a regular expression: Kong's plain prefixes do not end at an element."""
    if not pattern.elements:
        return "~/$" if pattern.exact else "/"
    parts = ("[^/]+" if is_variable(element) else re.escape(element) for element in pattern.elements)
    return f"~/{'/'.join(parts)}{'$' if pattern.exact else '(?:/|$)'}"


def _rate_limit(limit: RateLimitSpec) -> dict[str, object]:
    period = _PERIODS.get(limit.period)
    config: dict[str, object] = (
        {period: limit.requests} if period else {"minute": max(1, round(limit.requests * 60 / limit.period))}
    )
    config |= {"policy": "local", "limit_by": _LIMIT_BY[limit.key]}
    if limit.key is RateLimitKey.HEADER and limit.header:
        config["header_name"] = limit.header
    return {"name": "rate-limiting", "config": config}


def _balancer_name(found: ProxyTarget) -> str:
    return f"{label(found.service)}.upstream"


def _balancer(found: ProxyTarget, project: Project, gateway: GatewaySpec) -> dict[str, object]:
    spec = project.service(found.service)
    policy = spec.policy if spec and not found.is_gateway else UpstreamPolicy()
    balance = policy.balance or gateway.balance
    probe = gateway.ready_path if found.is_gateway else (health_path(spec) if spec else None)
    active: dict[str, object] = {
        "type": "tcp" if probe is None else found.scheme,
        **({} if probe is None else {"http_path": probe}),
        "timeout": 1,
        "healthy": {"interval": 10, "successes": 1},
        "unhealthy": {"interval": 1, "tcp_failures": 3, "timeouts": 3, "http_failures": 3},
    }
    return {
        "name": _balancer_name(found),
        "algorithm": "least-connections" if balance is Balance.LEAST_LOADED else "round-robin",
        **_hashing(policy.sticky),
        **({} if found.host is None else {"host_header": found.host}),
        "healthchecks": {"active": active},
        "targets": [
            {"target": str(address), "weight": weight}
            for address, weight in zip(found.addresses, _weights(found), strict=True)
        ],
    }


def _weights(found: ProxyTarget) -> list[int]:
    """Return the weight of each address, scaled to what Kong takes."""
    if not found.weights:
        return [100] * len(found.addresses)
    scale = min(1.0, _HIGHEST_WEIGHT / max(found.weights))
    return [max(1, round(weight * scale)) for weight in found.weights]


def _hashing(sticky: StickySpec | None) -> dict[str, object]:
    if sticky is None:
        return {}
    if sticky.cookie is not None:
        return {"algorithm": "consistent-hashing", "hash_on": "cookie", "hash_on_cookie": sticky.cookie}
    if sticky.header is not None:
        return {"algorithm": "consistent-hashing", "hash_on": "header", "hash_on_header": sticky.header}
    return {"algorithm": "consistent-hashing", "hash_on": "ip"}


def _differences(route: RouteSpec) -> Iterator[Notice]:
    key = f"services.{route.service}.routes"
    limit = route.rate_limit
    if limit is not None:
        if limit.burst is not None:
            yield Notice(f"{key}.rate_limit.burst", "Kong counts in fixed windows, without bursts")
        if limit.period not in _PERIODS:
            yield Notice(
                f"{key}.rate_limit.period",
                "Kong counts by the second, minute, hour or day: it is the minute here",
            )
        if limit.key is RateLimitKey.ROUTE:
            yield Notice(f"{key}.rate_limit.key", "Kong counts per service")
    if route.policy.sticky is not None:
        yield Notice(f"{key}.sticky", "Kong chooses by service: set it for the service")
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


def _first(value: float | None, default: float) -> float:
    return default if value is None else value


def _millis(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))


KIND = ExportKind("kong", "Kong's declarative configuration, in front of a stack on this machine", render)

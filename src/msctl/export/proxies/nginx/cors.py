"""CORS: which origins may call a route, and the answers to preflights."""

from __future__ import annotations

from collections.abc import Iterator

from msctl.export.proxies.nginx.fields import REQUEST_ID
from msctl.export.proxies.nginx.syntax import OWN, literal_regex, value
from msctl.export.proxies.nginx.targets import Target
from msctl.model.route_spec import CorsSpec

_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"

PREFLIGHT_MAP = (
    "",
    f'map "$request_method:$http_access_control_request_method:$http_origin" ${OWN}preflight {{',
    '    "~^OPTIONS:[^:]+:." 1;',
    "    default 0;",
    "}",
)

ASKED_MAP = (
    "",
    f'map "$request_method:$http_origin" ${OWN}asked {{',
    '    "~^OPTIONS:." $http_access_control_request_method;',
    "    default '';",
    "}",
)
"""The method that a preflight asks for."""


def cors_maps(target: Target) -> Iterator[str]:
    cors, number = target.route.cors, target.number
    if cors is None or target.is_gateway:
        return
    yield ""
    yield f"map $http_origin ${OWN}origin_{number} {{"
    if "*" in cors.origins:
        yield "    '' '';"
        yield "    default '*';"
    else:
        for origin in cors.origins:
            yield f'    "~^{literal_regex(origin)}$" $http_origin;'
        yield "    default '';"
    yield "}"
    if cors.credentials:
        yield from _with_origin("credentials", number, "true")
    if cors.expose:
        yield from _with_origin("expose", number, value(", ".join(cors.expose)))


def _with_origin(name: str, number: int, text: str) -> Iterator[str]:
    yield ""
    yield f"map ${OWN}origin_{number} ${OWN}{name}_{number} {{"
    yield "    '' '';"
    yield f"    default {text};"
    yield "}"


def preflight_lines(cors: CorsSpec, number: int, *, allowed: bool) -> Iterator[str]:
    """The body of the location that answers preflights of allowed origins, or of others."""
    yield "internal;"
    if allowed:
        headers = value(", ".join(cors.headers)) if cors.headers else "$http_access_control_request_headers"
        yield f"add_header Access-Control-Allow-Origin ${OWN}origin_{number};"
        if cors.credentials:
            yield "add_header Access-Control-Allow-Credentials true;"
        yield f"add_header Access-Control-Allow-Methods {value(', '.join(cors.methods))};"
        yield f"add_header Access-Control-Allow-Headers {headers};"
        yield f"add_header Access-Control-Max-Age {cors.max_age};"
    yield f'add_header Vary "{_VARY}";'
    yield REQUEST_ID
    yield "return 204;"

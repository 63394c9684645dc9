"""The plugins of a Kong route: rate limits, body sizes, CORS, and edits of fields.

Sources: the plugins' schemas and handlers in github.com/Kong/kong (kong/plugins).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msctl.export.kind import Notice
from msctl.export.proxies.upstreams import FRAMING, OWN_RESPONSE_FIELDS, edited_names
from msctl.model.route_spec import (
    CorsSpec,
    HeaderEdit,
    RateLimitKey,
    RateLimitSpec,
    RouteSpec,
)

Plugin = dict[str, object]

PERIODS = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}
_LIMIT_BY = {
    RateLimitKey.CLIENT: "ip",
    RateLimitKey.CREDENTIAL: "credential",
    RateLimitKey.HEADER: "header",
    RateLimitKey.ROUTE: "service",  # of this route: a plugin of a route counts for itself
}
NO_LIMIT = 2**31 - 1
"""Bytes: Kong knows no route without a limit where its service has one."""
_CORS_METHODS = {"GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_VALUE = re.compile(r"[^\x00-\x1f\x7f:][^\x00-\x1f\x7f]*")
_TEMPLATE = "$("
_PLAIN_ORIGIN = re.compile(r"\*|[A-Za-z0-9.:/-]+")


def plugins(route: RouteSpec, max_body: int | None) -> list[Plugin]:
    """Return the plugins of a route that Kong itself serves; `max_body` is its service's."""
    found: list[Plugin] = []
    if route.rate_limit is not None:
        found.append(_rate_limit(route.rate_limit))
    limit = route.policy.max_body if route.policy.max_body is not None else max_body
    if limit is not None:
        found.append(size_limit(limit or NO_LIMIT))
    if route.cors is not None:
        found.append(_cors(route.cors))
    if route.request_headers is not None:
        found.append(_transformer("request-transformer", route.request_headers))
    edit = route.response_headers or HeaderEdit()
    gone = [*edit.remove, *_services_own(route.cors)]
    if gone or edit.set or edit.add:
        found.append(_transformer("response-transformer", HeaderEdit(tuple(gone), edit.set, edit.add)))
    return found


def size_limit(size: int) -> Plugin:
    return {
        "name": "request-size-limiting",
        "config": {"allowed_payload_size": size, "size_unit": "bytes"},
    }


def can_edit_request(edit: HeaderEdit | None) -> bool:
    """Whether request-transformer can do these edits; values are templates for it."""
    names = edited_names(edit)
    told = any(name.startswith("x-forwarded-") for name in names) or "x-real-ip" in names
    return not (names & FRAMING or told) and _writable(edit, templates=True)


def can_edit_response(edit: HeaderEdit | None) -> bool:
    return not edited_names(edit) & OWN_RESPONSE_FIELDS and _writable(edit, templates=False)


def can_allow(cors: CorsSpec | None) -> bool:
    return cors is None or _CORS_METHODS.issuperset(cors.methods)


def plugin_differences(route: RouteSpec) -> Iterator[Notice]:
    key = f"services.{route.service}.routes"
    limit = route.rate_limit
    if limit is None:
        return
    if limit.burst is not None:
        yield Notice(f"{key}.rate_limit.burst", "Kong counts in fixed windows, without bursts")
    if limit.period not in PERIODS:
        text = "Kong counts by the second, minute, hour or day: it is the minute here"
        yield Notice(f"{key}.rate_limit.period", text)


def _writable(edit: HeaderEdit | None, *, templates: bool) -> bool:
    if edit is None:
        return True
    names = (*edit.remove, *edit.set, *edit.add)
    values = (*edit.set.values(), *edit.add.values())
    return all(map(_NAME.fullmatch, names)) and all(
        _VALUE.fullmatch(value) and not (templates and _TEMPLATE in value) for value in values
    )


def _rate_limit(limit: RateLimitSpec) -> Plugin:
    period = PERIODS.get(limit.period)
    config: dict[str, object] = (
        {period: limit.requests} if period else {"minute": max(1, round(limit.requests * 60 / limit.period))}
    )
    config |= {"policy": "local", "limit_by": _LIMIT_BY[limit.key]}
    if limit.key is RateLimitKey.HEADER and limit.header:
        config["header_name"] = limit.header
    return {"name": "rate-limiting", "config": config}


def _cors(cors: CorsSpec) -> Plugin:
    config: dict[str, object] = {"origins": [_origin(origin) for origin in cors.origins]}
    if "*" in cors.origins:
        config["origins"] = ["*"]
    config["methods"] = list(cors.methods)
    if cors.headers:
        config["headers"] = list(cors.headers)
    if cors.expose:
        config["exposed_headers"] = list(cors.expose)
    config |= {"credentials": cors.credentials, "max_age": cors.max_age, "preflight_continue": False}
    return {"name": "cors", "config": config}


def _origin(origin: str) -> str:
    """Return an origin as Kong takes it: one with other characters than these is a regular expression."""
    return origin if _PLAIN_ORIGIN.fullmatch(origin) else f"^{re.escape(origin)}$"


def _services_own(cors: CorsSpec | None) -> Iterator[str]:
    """Name the CORS fields of the service that Kong would leave beside its own."""
    if cors is None:
        return
    if not cors.credentials:
        yield "Access-Control-Allow-Credentials"
    if not cors.expose:
        yield "Access-Control-Expose-Headers"


def _transformer(name: str, edit: HeaderEdit) -> Plugin:
    """A field is set where there is one, and added where there is none; both in turn set it always."""
    config: dict[str, object] = {}
    if edit.remove:
        config["remove"] = {"headers": list(edit.remove)}
    if edit.set:
        pairs = [f"{field}:{value}" for field, value in edit.set.items()]
        config["replace"] = {"headers": pairs}
        config["add"] = {"headers": pairs}
    if edit.add:
        config["append"] = {"headers": [f"{field}:{value}" for field, value in edit.add.items()]}
    return {"name": name, "config": config}

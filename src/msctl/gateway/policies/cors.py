"""CORS for a route, as the Fetch standard defines it (https://fetch.spec.whatwg.org/#http-cors-protocol).

Pure. For a route with CORS, the upstream's own CORS fields are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from msctl.gateway.message.headers import Field, Fields, first
from msctl.model.route_spec import CorsSpec

OWNED = frozenset(
    {
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-allow-methods",
        b"access-control-allow-headers",
        b"access-control-expose-headers",
        b"access-control-max-age",
    }
)


def preflight_for(method: str, fields: Sequence[Field]) -> str | None:
    """Return the method of the request that a preflight asks for; None for any other request."""
    if method != "OPTIONS" or first(fields, b"origin") is None:
        return None
    asked = first(fields, b"access-control-request-method")
    return None if asked is None else asked.decode("latin-1")


def preflight(spec: CorsSpec, fields: Sequence[Field]) -> Fields:
    """Return the fields of the response to a preflight; only Vary if the origin is not allowed."""
    vary = (b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
    allowed = _origin(spec, fields)
    if not allowed:
        return [vary]
    asked = first(fields, b"access-control-request-headers")
    headers = ", ".join(spec.headers).encode() if spec.headers else asked
    out = [*allowed, (b"Access-Control-Allow-Methods", ", ".join(spec.methods).encode())]
    if headers:
        out.append((b"Access-Control-Allow-Headers", headers))
    return [*out, (b"Access-Control-Max-Age", str(spec.max_age).encode()), vary]


def response_fields(spec: CorsSpec, fields: Sequence[Field]) -> Fields:
    """Return the fields to add to the response to a request with these fields."""
    out = _origin(spec, fields)
    if out and spec.expose:
        out.append((b"Access-Control-Expose-Headers", ", ".join(spec.expose).encode()))
    if spec.credentials or "*" not in spec.origins:
        out.append((b"Vary", b"Origin"))
    return out


def _origin(spec: CorsSpec, fields: Sequence[Field]) -> Fields:
    origin = first(fields, b"origin")
    if origin is None:
        return []
    anyone = "*" in spec.origins
    if not anyone and origin.decode("latin-1") not in spec.origins:
        return []
    # With credentials browsers do not accept an asterisk.
    out = [(b"Access-Control-Allow-Origin", b"*" if anyone and not spec.credentials else origin)]
    if spec.credentials:
        out.append((b"Access-Control-Allow-Credentials", b"true"))
    return out

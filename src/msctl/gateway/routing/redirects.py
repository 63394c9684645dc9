"""The Location of a redirecting route. Pure."""

from __future__ import annotations

from msctl.gateway.message.target import Target
from msctl.gateway.routing.routes import Rule, replace_prefix
from msctl.model.address import bracketed
from msctl.model.route_spec import RedirectSpec

_DEFAULT_PORTS = {"http": 80, "https": 443}


def location(spec: RedirectSpec, rule: Rule, target: Target, *, scheme: str, host: str) -> str:
    """Return the Location for a request to `target` at `host`, which may include a port."""
    to_scheme = spec.scheme or scheme
    if spec.path is not None:
        path = spec.path
    elif spec.prefix is not None:
        path = replace_prefix(rule, target.path, spec.prefix)
    else:
        path = target.path
    name, port = _split(host)
    if spec.port is not None:
        port = str(spec.port)
    elif spec.scheme is not None or spec.host is not None:
        port = ""
    authority = bracketed(spec.host or name)
    if port and port != str(_DEFAULT_PORTS.get(to_scheme)):
        authority = f"{authority}:{port}"
    query = "" if target.query is None else f"?{target.query}"
    return f"{to_scheme}://{authority}{path}{query}"


def _split(host: str) -> tuple[str, str]:
    name, mark, port = host.rpartition(":")
    if not mark or "]" in port:
        return host, ""
    return name, port

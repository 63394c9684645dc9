"""The limits of the HTTP server; each has a refusal that names it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from msctl.model.gateway_spec import GatewaySpec


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Sizes in bytes, times in seconds.

    A single field may be as long as the whole head. The request line, the head (request line included) and
    the number of fields are limited; the trailer section has the limits of a head. `keepalive` is how long
    a connection may be idle, and how long a client may take for a head.
    """

    request_line: int = 16 * 1024
    head: int = 64 * 1024
    fields: int = 256
    keepalive: float = 75.0


DEFAULT_LIMITS = HttpLimits()


def limits_of(spec: GatewaySpec | None) -> HttpLimits:
    """Return the limits of the listeners of a project with this gateway."""
    if spec is None:
        return DEFAULT_LIMITS
    return replace(DEFAULT_LIMITS, head=spec.max_header_bytes, fields=spec.max_header_fields)

"""The gateway's routes as the page lists them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from msctl.model.route_spec import RouteSpec

_GUARDS = ("api_key", "jwt", "basic_auth", "forward_auth", "rate_limit", "cors")


def route_rows(routes: Sequence[RouteSpec], api_document: str | None = None) -> list[dict[str, object]]:
    """One row a route, in the order of matching: what it matches, where it leads, what guards it.

    The gateway's OpenAPI document, at the URL `api_document`, comes first.
    """
    rows: list[dict[str, object]] = [] if api_document is None else [_document_row(api_document)]
    return rows + [
        {
            "path": route.path,
            "exact": route.exact,
            "methods": route.methods,
            "hosts": route.hosts,
            "headers": [f"{name}: {value}" for name, value in route.headers.items()],
            "service": route.service,
            "answers": _answers(route),
            "others": route.other_services,
            "guards": [name for name in _GUARDS if getattr(route, name) is not None],
        }
        for route in routes
    ]


def _document_row(url: str) -> dict[str, object]:
    """A row like a route's, with a link."""
    row = {"path": urlsplit(url).path, "exact": True, "methods": ["GET", "HEAD"], "hosts": [], "headers": []}
    return {**row, "service": "", "answers": "openapi", "others": [], "guards": [], "link": url}


def _answers(route: RouteSpec) -> str:
    """What the gateway answers by itself; empty for a route to a service."""
    for name in ("redirect", "compose", "static"):
        if getattr(route, name) is not None:
            return name
    return ""

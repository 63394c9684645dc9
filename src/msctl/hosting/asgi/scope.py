"""The ASGI scope of a request, with the contents that uvicorn gives it. Pure.

A scope is new for each request, with lists of its own: frameworks write to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msctl.hosting.forwarding import Trusts
from msctl.hosting.request_parts import request_of
from msctl.model.exchange import Exchange

Scope = dict[str, Any]
Message = dict[str, Any]

_HTTP = {"version": "3.0", "spec_version": "2.3"}
_WEBSOCKET = {"version": "3.0", "spec_version": "2.4"}


def http_scope(
    exchange: Exchange, state: Mapping[str, Any], trusts: Trusts, bare_path: bool = False
) -> Scope:
    """`bare_path` leaves `root_path` out of `path`, as servers did before ASGI said otherwise."""
    scope = _common(exchange, state, trusts, bare_path)
    scope["type"] = "http"
    scope["asgi"] = _HTTP.copy()
    scope["method"] = exchange.head.method
    return scope


def websocket_scope(
    exchange: Exchange, state: Mapping[str, Any], trusts: Trusts, bare_path: bool = False
) -> Scope:
    scope = _common(exchange, state, trusts, bare_path)
    scope["type"] = "websocket"
    scope["asgi"] = _WEBSOCKET.copy()
    scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
    offered = [value for name, value in scope["headers"] if name == b"sec-websocket-protocol"]
    names = b",".join(offered).decode("latin-1").split(",")
    scope["subprotocols"] = [name.strip() for name in names if name.strip()]
    scope["extensions"] = {"websocket.http.response": {}}
    return scope


def _common(exchange: Exchange, state: Mapping[str, Any], trusts: Trusts, bare_path: bool) -> Scope:
    request = request_of(exchange, trusts)
    target, prefix = request.target, request.prefix
    before = b"" if bare_path else prefix
    return {
        "http_version": request.version,
        "server": exchange.server,
        "client": request.client,
        "scheme": request.scheme,
        "root_path": prefix.decode("utf-8", "replace"),
        "path": (before + target.decoded).decode("utf-8", "replace"),
        "raw_path": before + target.path,
        "query_string": target.query,
        "headers": request.fields,
        "state": dict(state),
    }

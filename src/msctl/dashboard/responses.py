"""What all handlers of the dashboard share: reading parameters, JSON responses and errors as JSON."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from msctl.errors import MsctlError, UsageError

BODY_TIMEOUT_S = 10.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": _CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Call the handler; an MsctlError becomes a 409 in JSON, an HTTP error a plain response."""
    try:
        return await handler(request)
    except MsctlError as error:
        return json_response(error_document(error), status=409)
    except web.HTTPException as error:
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return web.Response(status=error.status, text=error.text or error.reason, headers=headers)


def json_response(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def accepts_gzip(field: str) -> bool:
    """Return whether an Accept-Encoding field allows gzip (RFC 9110 §12.5.3)."""
    weights: dict[str, float] = {}
    for part in field.split(","):
        coding, _, parameters = part.partition(";")
        weight = 1.0
        with contextlib.suppress(ValueError):
            weight = float(parameters.strip().removeprefix("q=") or 1)
        weights[coding.strip().lower()] = weight
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def error_document(error: MsctlError) -> dict[str, object]:
    return {"message": error.message, "hint": error.hint}


async def read_body(request: web.Request, kind: type[Any]) -> Any:
    """Decode the JSON body. Raises UsageError, and HTTPRequestTimeout if the body does not arrive."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="the body did not arrive in time\n") from None
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise UsageError(f"the request is malformed: {error}") from error


def text_parameter(request: web.Request, name: str) -> str:
    """A required query parameter. Raises UsageError."""
    value = request.query.get(name, "")
    if not value:
        raise UsageError(f"the parameter {name} is missing")
    return value


def number_parameter(request: web.Request, name: str, default: int) -> int:
    """An optional query parameter; `default` if it is not a number. Never negative."""
    value = request.query.get(name, "")
    with contextlib.suppress(ValueError):
        return max(0, int(value))
    return default

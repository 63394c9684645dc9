"""The server side of the gateway's connections: aiohttp's, with answers to malformed requests of our own.

A listener uses `GatewayServer` where it would use `aiohttp.web.Server`. aiohttp's parser refuses what is
malformed; here the refusal becomes a problem document with the right status, one line in the log
instead of a traceback, and the end of the connection.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong

from msctl.gateway.planning import Origin
from msctl.gateway.problems import Problem
from msctl.gateway.tracecontext import request_id

KEEP_ALIVE = 75.0
"""Seconds that a client's connection may be idle, or take to send a whole head."""


def origin(protocol: web.RequestHandler) -> Origin:
    """Where a connection comes from."""
    peer = protocol.peername
    address = str(peer[0]) if isinstance(peer, (tuple, list)) and peer else ""
    return address, "https" if protocol.ssl_context is not None else "http"


class GatewayProtocol(web.RequestHandler):
    """One client's connection: its `origin`, and the packets `received`, a sign of life for deadlines."""

    __slots__ = ("origin", "received")

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self.received = 0
        self.origin: Origin = ("", "http")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.origin = origin(self)

    def data_received(self, data: bytes) -> None:
        self.received += 1
        super().data_received(data)
        # aiohttp queues the error of a body behind the request that the body belongs to, whose
        # handler would wait for the rest of it until the end of its patience.
        request = self._current_request
        if request is None or not self._messages:
            return
        if getattr(self._messages[-1][0], "exc", None) is not None:
            request.content.set_exception(web.RequestPayloadError("the body's framing is malformed"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        problem = refusal(exc)
        log = logging.getLogger("msctl.gateway")
        peer = self.origin[0] or "a local client"
        log.info("%d for a malformed request from %s: %s", problem.status, peer, problem.detail)
        own_id = request_id()
        response = web.Response(
            status=problem.status,
            reason=problem.title,
            body=problem.body("msctl", own_id),
            headers=[(name.decode(), value.decode()) for name, value in problem.headers("msctl")],
        )
        response.headers["X-Request-Id"] = own_id
        response.force_close()
        return response


def refusal(error: HttpProcessingError) -> Problem:
    """What to tell a client whose bytes are no request. Nothing of them is repeated."""
    if isinstance(error, LineTooLong):
        line = error.args[0]
        if isinstance(line, (bytes, bytearray)) and line[:1] in (b"/", b"h"):
            return Problem(414, "The request target is too long.", error="http_request_error", close=True)
        return Problem(431, "A header field is too long.", error="http_request_error", close=True)
    if isinstance(error, BadHttpMessage) and error.message.startswith("Too many headers"):
        return Problem(431, "There are too many header fields.", error="http_request_error", close=True)
    return Problem(400, "The request is not well-formed HTTP/1.1.", error="http_request_error", close=True)


class GatewayServer(web.Server):
    """An `aiohttp.web.Server` whose connections are `GatewayProtocol`s.

    Give it `auto_decompress=False`, `access_log=None`, `handler_cancellation=True` and
    `keepalive_timeout=KEEP_ALIVE`, and a `request_factory` that makes `web.Request` objects.
    """

    def __call__(self) -> web.RequestHandler:
        return GatewayProtocol(self, loop=self._loop, **self._kwargs)

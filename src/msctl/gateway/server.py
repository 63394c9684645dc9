"""The server side of the gateway's connections, on aiohttp's server protocol.

A listener uses `GatewayServer` in place of `aiohttp.web.Server`. It differs in two ways: a malformed
request gets a problem document with the right status and one log line instead of a traceback, and a
request that has arrived whole starts without waking the connection's task.

How the second works. aiohttp runs one task per connection, which waits on the future `_waiter` until
`_messages` holds a request. While the parser runs, `_waiter` is taken away, so aiohttp does not wake
the task. If exactly one complete request arrived, it is taken from `_messages` and runs in a batch
(see eager.py), while the task keeps waiting on the same future. When the request ends, `_served` puts
the future back, and resolves it if more requests were read in the meantime. Invariant: at any time
either the connection's task or `_serve` handles requests, never both. This relies on private names of
aiohttp's RequestHandler (`_waiter`, `_messages`, `_current_request`, `_handle_request`), hence the
upper bound on aiohttp in pyproject.toml.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from aiohttp.streams import StreamReader

from msctl.gateway.eager import Eager
from msctl.gateway.message.problems import Problem
from msctl.gateway.message.trace_context import request_id
from msctl.gateway.request.plan import Peer

KEEP_ALIVE_S = 75.0
"""Seconds for which a client's connection may be idle, or take to send a request's head."""


def peer_of(protocol: web.RequestHandler) -> Peer:
    """Return the address of a connection's client and the scheme spoken on it."""
    peer = protocol.peername
    address = str(peer[0]) if isinstance(peer, (tuple, list)) and peer else ""
    return address, "https" if protocol.ssl_context is not None else "http"


class GatewayProtocol(web.RequestHandler):
    """One client's connection.

    `received` counts calls of `data_received`; deadlines read it as progress.
    """

    __slots__ = ("_eager", "_serving", "peer", "received")

    def __init__(self, manager: GatewayServer, **options: Any) -> None:
        super().__init__(manager, **options)
        self.received = 0
        self.peer: Peer = ("", "http")
        self._eager = manager.eager
        self._serving: asyncio.Task[Any] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.peer = peer_of(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._serving is not None:
            self._serving.cancel()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        await super().shutdown(timeout)
        if self._serving is not None:
            self._serving.cancel()

    def data_received(self, data: bytes) -> None:
        self.received += 1
        waiter = self._waiter
        if waiter is None or waiter.done() or self._messages:
            super().data_received(data)
        else:
            # Without a waiter, aiohttp does not wake its task.
            self._waiter = None
            super().data_received(data)
            if not self._begin(waiter):
                self._wait_on(waiter)
        # aiohttp queues a body's framing error behind the request itself, whose handler would wait
        # for the rest of the body until its deadline.
        request = self._current_request
        if request is None or not self._messages:
            return
        if getattr(self._messages[-1][0], "exc", None) is not None:
            request.content.set_exception(web.RequestPayloadError("the body's framing is malformed"))

    def _begin(self, waiter: asyncio.Future[None]) -> bool:
        """Start the request if exactly one complete request was read; return whether it was."""
        messages = self._messages
        if len(messages) != 1 or self._upgraded:
            return False
        message, content = messages[0]
        if type(message) is not RawRequestMessage or not content.is_eof():
            return False
        messages.popleft()
        self._eager.start(self._serve(message, content, waiter))
        return True

    async def _serve(
        self, message: RawRequestMessage, content: StreamReader, waiter: asyncio.Future[None]
    ) -> None:
        """Handle a request as aiohttp's task would, which waits on `waiter` until this ends."""
        loop, manager, parser, make = self._loop, self._manager, self._parser, self._request_factory
        if manager is None or parser is None or make is None or self._request_handler is None:
            return  # the connection was lost first
        parser.message_consumed()
        manager.requests_count += 1
        task = cast("asyncio.Task[None]", asyncio.current_task(loop))
        self._serving = task
        request = make(message, content, self, StreamWriter(self, loop), task)
        keep_alive = False
        try:
            response, broken = await self._handle_request(request, None, self._request_handler)
            keep_alive = not broken and bool(response.keep_alive)
        except ConnectionError:
            pass  # the client closed the connection
        except Exception as error:  # noqa: BLE001 - ends this connection only
            self.log_exception("the response to a request could not be sent", exc_info=error)
        finally:
            content.set_exception(web.PayloadAccessError())
            request._task = None  # type: ignore[assignment]  # as aiohttp does: breaks a cycle
            self._serving = None
            self._served(waiter, keep_alive=keep_alive)

    def _served(self, waiter: asyncio.Future[None], *, keep_alive: bool) -> None:
        """Wait for the next request, or close the connection."""
        self._keepalive = keep_alive
        if not keep_alive or self._close or self._force_close:
            if self.transport is not None:
                self.transport.close()
            waiter.cancel()
            return
        self._next_keepalive_close_time = when = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(when, self._process_keepalive)
        self._wait_on(waiter)

    def _wait_on(self, waiter: asyncio.Future[None]) -> None:
        """Give the waiter back to aiohttp's task; wake it if requests are queued."""
        self._waiter = waiter
        if self._messages and not waiter.done():
            waiter.set_result(None)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        problem = parse_problem(exc)
        log = logging.getLogger("msctl.gateway")
        peer = self.peer[0] or "a local client"
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


def parse_problem(error: HttpProcessingError) -> Problem:
    """Describe a parse error to its client, without repeating any of its bytes."""
    if isinstance(error, LineTooLong):
        line = error.args[0]
        if isinstance(line, (bytes, bytearray)) and line[:1] in (b"/", b"h"):
            return Problem(414, "The request target is too long.", error="http_request_error", close=True)
        return Problem(431, "A header field is too long.", error="http_request_error", close=True)
    if isinstance(error, BadHttpMessage) and error.message.startswith("Too many headers"):
        return Problem(431, "There are too many header fields.", error="http_request_error", close=True)
    return Problem(400, "The request is not well-formed HTTP/1.1.", error="http_request_error", close=True)


class GatewayServer(web.Server):
    """An `aiohttp.web.Server` with `GatewayProtocol` connections.

    Construct it with `auto_decompress=False`, `access_log=None`, `handler_cancellation=True` and
    `keepalive_timeout=KEEP_ALIVE_S`, and a `request_factory` that returns `web.Request` objects.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.eager = Eager(self._loop)

    async def shutdown(self, timeout: float | None = None) -> None:
        await super().shutdown(timeout)
        self.eager.close()

    def __call__(self) -> web.RequestHandler:
        return GatewayProtocol(self, loop=self._loop, **self._kwargs)

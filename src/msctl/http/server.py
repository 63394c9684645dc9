"""The HTTP server: makes a connection for each client, knows them all, and ends them.

    server = HttpServer(handler)
    listening = await loop.create_server(server, sock=sock)
    ...
    listening.close()
    await server.shutdown(10.0)

Sockets and TLS are the listener's. What goes wrong in a handler is judged here: a `RequestError` is answered
with its status; a `ConnectionError` resets the connection, because the response is incomplete; anything else
is a bug of the handler, is reported, and gets a 500 if no response has started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from msctl.http.connection import Connection
from msctl.http.exchange import ServerExchange, dated_problem, refusal
from msctl.http.head_reader import HeadReader
from msctl.http.limits import DEFAULT_LIMITS, HttpLimits
from msctl.model.exchange import Exchange, Handler, RequestError

_ABANDON_S = 1.0
_logger = logging.getLogger("msctl.http")

OnError = Callable[[Exchange, BaseException], None]
"""Called with a handler's bug. For a handler that did not finish its response, a RuntimeError."""
OnRefusal = Callable[[RequestError, tuple[str, int]], None]
"""Called with what was refused before a handler saw it, and the client's address."""


class HttpServer:
    """A protocol factory for `loop.create_server`, and the connections it made."""

    def __init__(
        self,
        handler: Handler,
        *,
        limits: HttpLimits = DEFAULT_LIMITS,
        on_error: OnError | None = None,
        on_refusal: OnRefusal | None = None,
    ) -> None:
        """Without hooks, errors and refusals are logged."""
        self.handler = handler
        self.limits = limits
        self.heads = HeadReader(limits)
        self.closing = False
        self._on_error = on_error or _log_error
        self._on_refusal = on_refusal or log_refusal
        self._connections: set[Connection] = set()
        self._empty: asyncio.Future[None] | None = None

    def __call__(self) -> Connection:
        return Connection(self, asyncio.get_running_loop())

    @property
    def connections(self) -> int:
        """How many connections are open, or have a handler that still runs."""
        return len(self._connections)

    def close_idle(self) -> None:
        """Close idle connections, and each other one after its response."""
        self.closing = True
        for connection in list(self._connections):
            connection.close_if_idle()

    async def shutdown(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for the running responses; then abort, and cancel their handlers.

        A handler that ignores its cancellation is left behind after a second.
        """
        self.close_idle()
        await self._until_empty(timeout)
        for connection in list(self._connections):
            connection.abort()
            if connection.task is not None:
                connection.task.cancel()
        await self._until_empty(_ABANDON_S)

    async def _until_empty(self, timeout: float) -> None:
        if self._connections:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=timeout)

    # --- for connections ------------------------------------------------------------------------------

    def add(self, connection: Connection) -> None:
        self._connections.add(connection)

    def discard(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def refused(self, connection: Connection, error: RequestError) -> None:
        """Answer bytes that are not a request."""
        self._on_refusal(error, connection.client)
        connection.refuse(refusal(error))

    def handler_failed(self, exchange: ServerExchange, error: BaseException | None) -> None:
        """Judge what a handler raised; None if it returned without finishing the response."""
        if isinstance(error, RequestError):
            exchange.refuse(error)
            return
        if isinstance(error, ConnectionError):
            if not exchange.finished:
                exchange.abort()
            return
        if error is None:
            error = RuntimeError("the handler returned before it had finished the response")
        self._on_error(exchange, error)
        if exchange.finished:
            return
        if exchange.status:
            exchange.abort()
        else:
            exchange.keep_alive = False
            exchange.respond(500, b"", *dated_problem(500, "The handler failed before it answered."))


def _log_error(exchange: Exchange, error: BaseException) -> None:
    _logger.error("a handler failed: %s", exchange.head.method, exc_info=error)


def log_refusal(error: RequestError, client: tuple[str, int]) -> None:
    _logger.info("%d for %s: %s", error.status, client[0] or "a client", error.detail)

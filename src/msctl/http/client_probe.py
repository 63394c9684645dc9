"""Finds out whether a client that has ended its side of a connection still listens.

A client that shuts down its side after its request still gets its response. One that has closed the
connection looks the same (a FIN) until something is sent to it, which it answers with RST. So while no
response has started, a 100 is sent as a probe: a client that still listens ignores it (RFC 9110 §15.2). A
response that has started is its own probe; while it is quiet, the client is taken to have left, because that
is how clients leave event streams.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

from msctl.http.exchange import ServerExchange

PROBE_S = 0.05
"""How long such a client is left in peace before it is probed; doubles with each probe."""
PROBE_LATEST_S = 8.0
QUIET_S = 0.2
"""How long a response may say nothing to it before the handler is told that the client has left."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ProbedConnection(Protocol):
    """What a probe needs of the connection."""

    written: int
    """The bytes written so far."""

    def write(self, data: bytes) -> None: ...


class ClientProbe:
    """Probes a client until its response is finished."""

    __slots__ = ("_connection", "_delay", "_exchange", "_loop", "_timer", "_transport", "_written")

    def __init__(
        self,
        connection: ProbedConnection,
        exchange: ServerExchange,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._connection = connection
        self._exchange = exchange
        self._transport = transport
        self._loop = loop
        self._delay = PROBE_S
        self._written = connection.written
        self._timer = loop.call_later(PROBE_S, self._probe)

    def cancel(self) -> None:
        """Stop: the connection is lost."""
        self._timer.cancel()

    def _probe(self) -> None:
        connection, exchange = self._connection, self._exchange
        if exchange.finished or self._transport.is_closing():
            return
        if not exchange.status:
            if exchange.head.version > (1, 0):
                connection.write(CONTINUE)
        elif connection.written == self._written and self._delay >= QUIET_S:
            exchange.connection_lost()
        if self._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._transport.abort()
            return
        self._written = connection.written
        self._delay = min(2 * self._delay, PROBE_LATEST_S)
        self._timer = self._loop.call_later(self._delay, self._probe)

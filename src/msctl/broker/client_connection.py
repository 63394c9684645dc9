"""One client socket of the broker: connects the event loop to the socket's session."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Iterable
from typing import Protocol, cast

from msctl.broker.session.session import Address, Session
from msctl.model.address import is_loopback

FRAMES_PER_TURN = 600
WRITE_HIGH = 256 * 1024


class ConnectionHost(Protocol):
    """The server, as its connections see it."""

    def connected(self, protocol: ClientConnection) -> Session | None:
        """The session of a new connection; None if there are too many sockets."""
        ...

    def disconnected(self, session: Session) -> None: ...

    def more_to_read(self, protocol: ClientConnection) -> None:
        """Process the connection's remaining input in the next turn, or one of those after it."""
        ...

    @property
    def turn_is_full(self) -> bool:
        """Whether as many connections have had a full slice in this turn of the loop as may have one."""
        ...

    def work(self) -> None:
        """Deliver to consumers, write output, and schedule another turn if work remains."""
        ...


class ClientConnection(asyncio.Protocol):
    """One client socket; connects the event loop to the socket's session."""

    def __init__(self, server: ConnectionHost) -> None:
        self._server = server
        self._session: Session | None = None
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._rest: asyncio.TimerHandle | None = None
        self._writable = True
        self._peer_closed = False
        self._ended = False
        self.fileno = -1
        self.peer = "a client"
        self.addresses: tuple[Address, Address] | None = None
        self.loopback = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)
        address = transport.get_extra_info("peername")
        if address:
            self.peer = f"AMQP client {address[0]}:{address[1]}"
            self.loopback = is_loopback(address[0])
            self.addresses = (address[:2], transport.get_extra_info("sockname")[:2])
        sock = transport.get_extra_info("socket")
        if sock is not None:
            self.fileno = sock.fileno()
            # A peer that vanished without a word is noticed even without heartbeats.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._session = self._server.connected(self)
        if self._session is None:
            self._transport.abort()

    @property
    def paused(self) -> bool:
        """Whether the memory alarm keeps the socket from being read."""
        return not self._reading and self._session is not None and self._session.blocked

    def read_to_the_end(self) -> None:
        """Read what the peer sent before it closed its side, whatever the alarm."""
        self._peer_closed = True
        self._read(True)

    def read_on(self) -> None:
        """Read a paused connection further, within bounds, to find its end."""
        if self._session is not None and not self._peer_closed:
            self._session.seek_end()
            self._read(self._session.receives)

    def data_received(self, data: bytes) -> None:
        session = self._session
        if session is None:
            return
        session.receive(data)
        if self._server.turn_is_full:
            self._server.more_to_read(self)
            self._read(False)
            return
        self.process()
        if session.handled:
            self._server.work()

    def process(self) -> None:
        """Process one slice of the input; pause reading while input remains."""
        session = self._session
        if session is None or self._transport is None:
            return
        more = session.process(FRAMES_PER_TURN)
        if more:
            self._server.more_to_read(self)
        elif self._ended:
            self._transport.close()
        if not more and (rest := session.rest) and not self._peer_closed:
            self._begin_rest(rest)
        else:
            self._read(self._peer_closed or (not more and session.receives))

    def _begin_rest(self, seconds: float) -> None:
        if self._rest is None:
            self._read(False)
            self._rest = asyncio.get_running_loop().call_later(seconds, self._end_rest)

    def _end_rest(self) -> None:
        self._rest = None
        if self._session is not None:
            self._read(self._peer_closed or self._session.receives)

    def _read(self, wanted: bool) -> None:
        if self._transport is None or wanted is self._reading or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted and self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def write(self) -> None:
        """Write the session's output; close the socket behind it if the session is finished."""
        session, transport = self._session, self._transport
        if session is None or transport is None or transport.is_closing():
            return
        data = session.take_output()
        if data:
            transport.write(data)
        session.outbox.written(writable=self._writable)
        if session.finished:
            transport.close()
        elif session.reads and (session.resumed or not self._reading):
            self._server.more_to_read(self)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._session is not None:
            self._session.outbox.written(writable=True)
            if not self._reading:
                self._server.more_to_read(self)
            self._server.work()

    def eof_received(self) -> bool:
        """Process the parked input of a blocked connection before closing it."""
        self._peer_closed = True
        if self._session is None or not self._session.drain():
            return False
        self._ended = True
        self._server.more_to_read(self)
        return True

    def connection_lost(self, _exc: Exception | None) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._server.disconnected(session)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


_PEER_CLOSED = getattr(select, "POLLRDHUP", 0)
"""The poll event for a peer that has closed its side; resets and errors are always reported."""


def with_closed_peer(paused: Iterable[ClientConnection]) -> list[ClientConnection]:
    """Those of the paused connections whose peer is seen to have closed or reset them."""
    numbers = {connection.fileno: connection for connection in paused}
    if not numbers:
        return []
    poll = select.poll()
    for number in numbers:
        poll.register(number, _PEER_CLOSED)
    return [numbers[number] for number, _ in poll.poll(0)]

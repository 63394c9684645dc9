"""WebSockets of WSGI applications.

WSGI has none. Flask-Sock, Flask-SocketIO and what else uses simple-websocket take the connection's socket out
of the environ, where Gunicorn has it, and speak on it in the request's thread. A hosted application has no
connection of its own, so it gets one end of a socket pair. What it writes is a response head, which answers
the handshake, and then frames; both directions are relayed, and get a close frame between two frames when
the service stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, cast

from msctl.hosting.response_fields import response_head
from msctl.hosting.standard_answers import respond_failed
from msctl.hosting.wsgi.environ import Environ
from msctl.http.websocket_frames import GOING_AWAY, ClosingRelay
from msctl.model.exchange import ClientGoneError, Exchange, Fields, RawStream

_MAX_HEAD = 64 * 1024
_END = b"\r\n\r\n"
_LINGER_S = 1.0
"""How long a client may take to answer a close frame of an application that has returned."""


class ApplicationSocket(socket.socket):
    """The application's end, which knows whether it was written to: then the WSGI response is void."""

    used = False

    def send(self, *args: Any) -> int:
        self.used = True
        return super().send(*args)

    def sendall(self, *args: Any) -> None:
        self.used = True
        super().sendall(*args)


class WebSocketRelay(asyncio.Protocol):
    """Relays between an upgraded exchange and the application's socket; belongs to the loop."""

    def __init__(self, exchange: Exchange, loop: asyncio.AbstractEventLoop) -> None:
        self._exchange = exchange
        self._loop = loop
        self._head = b""
        self._stream: RawStream | None = None
        self._draining: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        """Runs once the application's end is closed and the client's answer is awaited."""
        self._client_gone = False
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when either side has closed."""

    async def open(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.theirs = ApplicationSocket(theirs.family, theirs.type, theirs.proto, theirs.detach())
        await self._loop.connect_accepted_socket(lambda: self, ours)

    def extend(self, environ: Environ) -> None:
        """Add what the application's library looks for: the socket, and the fields of the handshake."""
        environ["gunicorn.socket"] = self.theirs
        environ["HTTP_CONNECTION"], environ["HTTP_UPGRADE"] = "Upgrade", "websocket"

    @property
    def used(self) -> bool:
        """Whether the application has answered on the socket; may be read in any thread."""
        return self.theirs.used

    def finish(self) -> None:
        """The application has returned: relay what it wrote, then close."""
        with contextlib.suppress(OSError):
            self.theirs.shutdown(socket.SHUT_WR)

    def go_away(self) -> None:
        """Close it, since the service stops."""
        if self._stream is not None:
            self._up.close(GOING_AWAY)
            self._down.close(GOING_AWAY)

    def abort(self) -> None:
        """Close both ends at once."""
        self._client_gone = True
        self._transport.abort()

    # --- the application's bytes ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._stream is None:
            self._head += data
            if _END in self._head:
                self._answer()
            elif len(self._head) > _MAX_HEAD:
                self._refuse()
            return
        self._down.feed(data)
        if self._stream.writing_paused and self._draining is None:
            self._transport.pause_reading()
            self._draining = self._loop.create_task(self._wait_for_client(self._stream))

    def connection_lost(self, _: Exception | None) -> None:
        self.theirs.close()
        if self._stream is None:
            if self._head:
                self._refuse()
            self._end()
        elif self._client_gone:
            self._end()
        else:
            self._timer = self._loop.call_later(_LINGER_S, self._end)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._stream is not None:
            self._stream.close()
        if not self.ended.done():
            self.ended.set_result(None)

    def _answer(self) -> None:
        """Answer the handshake with the head that the application wrote."""
        head, _, rest = self._head.partition(_END)
        self._head = b""
        try:
            status, fields = _parsed(head)
            checked = response_head(status if status != 101 else 200, fields)
        except (RuntimeError, ValueError):
            self._refuse()
            return
        try:
            if status != 101:
                self._exchange.respond(checked.status, checked.reason, checked.fields, b"")
                self._transport.abort()
                return
            self._stream = self._exchange.upgrade(list(checked.fields), _FromClient(self))
        except ClientGoneError:
            self._transport.abort()
            return
        self._down = ClosingRelay(self._stream.write, masked=False)
        self._up = ClosingRelay(self._transport.write, masked=True)
        if rest:
            self.data_received(rest)

    def _refuse(self) -> None:
        """What the application wrote is no response."""
        self._head = b""
        if not self._exchange.status:
            respond_failed(self._exchange)
        self._transport.abort()

    async def _wait_for_client(self, stream: RawStream) -> None:
        """Stop reading from the application while the client's write buffer is full."""
        with contextlib.suppress(ClientGoneError):
            await stream.drain()
        self._draining = None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # --- the client's bytes -----------------------------------------------------------------------

    def client_sent(self, data: bytes) -> None:
        if self._timer is None:
            self._up.feed(data)
        else:
            self._end()

    def client_left(self) -> None:
        self._client_gone = True
        if self._timer is None:
            self._transport.abort()
        else:
            self._end()

    def pause_writing(self) -> None:
        if self._stream is not None:
            self._stream.pause_reading()

    def resume_writing(self) -> None:
        if self._stream is not None:
            self._stream.resume_reading()


class _FromClient:
    """Receives the client's bytes after the 101."""

    def __init__(self, relay: WebSocketRelay) -> None:
        self._relay = relay

    def data_received(self, data: bytes) -> None:
        self._relay.client_sent(data)

    def eof_received(self) -> None:
        self._relay.client_left()


def _parsed(head: bytes) -> tuple[int, Fields]:
    """Return the status and the end-to-end fields of a response head. Raises ValueError."""
    first, *lines = head.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ValueError(first)
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise ValueError(line)
        if name.lower() not in (b"upgrade", b"content-length"):
            fields.append((name, value.strip()))
    return int(rest.partition(b" ")[0]), fields

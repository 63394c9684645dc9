"""One WebSocket of an ASGI application (ASGI 3.0, HTTP & WebSocket specification 2.4).

The handshake is answered when the application accepts, refuses or denies it. From then on the session reads
frames, answers pings, and keeps at most `_MAX_QUEUED` messages for the application: a client that sends
faster is not read. An application that returns without closing closes with 1000, one that raises with 1011;
before its answer to the handshake, either is a 500.

A compressed message is decompressed when the application receives it, so what waits takes no more memory than
it had on its way, and one that is not received costs nothing.

A message that breaks the protocol is an error of the application and changes nothing: it may send another.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from msctl.hosting.asgi import websocket_frames as frames
from msctl.hosting.asgi.permessage_deflate import Agreement, Deflater, Inflater, Inflation
from msctl.hosting.asgi.response import Response
from msctl.hosting.asgi.scope import Message
from msctl.hosting.asgi.websocket_handshake import Handshake, HandshakeError, handshake
from msctl.hosting.asgi.websocket_messages import close_of, payload_of, received, size_of
from msctl.hosting.standard_answers import respond_failed, respond_unavailable
from msctl.http.date import http_date
from msctl.model.exchange import ClientGoneError, Exchange, RawStream
from msctl.model.websocket_spec import WebSocketSpec

CLOSE_TIMEOUT_S = 10.0
"""How long a client may take to answer a close frame."""
_MAX_QUEUED = 32
_MAX_QUEUED_BYTES = 1024 * 1024


class ClientDisconnected(OSError):  # noqa: N818 - the name that uvicorn gives it
    """The application sends to a client that has left."""


class _State(Enum):
    CONNECTING = auto()
    DENYING = auto()
    OPEN = auto()
    CLOSING = auto()
    """A close frame is sent, the client's awaited."""
    CLOSED = auto()


class WebSocketSession:
    """The `receive` and `send` of one WebSocket, and the receiver of its bytes."""

    def __init__(self, exchange: Exchange, loop: asyncio.AbstractEventLoop, spec: WebSocketSpec) -> None:
        self._exchange = exchange
        self._loop = loop
        self._spec = spec
        self._state = _State.CONNECTING
        self._stream: RawStream | None = None
        self._response: Response | None = None
        self._reader = frames.FrameReader(spec.max_size)
        self._deflater: Deflater | None = None
        self._inflater: Inflater | None = None
        self._sending = asyncio.Lock()
        """Held while a message is compressed, so that messages leave in order."""
        self._events: deque[Message | Inflation] = deque([{"type": "websocket.connect"}])
        self._queued = 0
        self._paused = False
        self._disconnect: Message | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ping: bytes | None = None
        self._ended_by_application = False
        """Whether the application has closed the WebSocket, refused or denied it."""
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when the connection is another's again, or closed."""
        self._handshake: Handshake | None = None

    def refuse_handshake(self) -> bool:
        """Answer an invalid handshake; return whether it was one."""
        try:
            self._handshake = handshake(self._exchange.head, compression=self._spec.compression)
        except HandshakeError as error:
            fields = [(b"sec-websocket-version", b"13"), (b"date", http_date())]
            self._exchange.respond(error.status, error.reason, fields, error.reason + b"\n")
            self._finish()
            return True
        return False

    @property
    def accepted(self) -> bool:
        return self._stream is not None

    @property
    def started(self) -> bool:
        return self._state is not _State.CONNECTING

    @property
    def closed(self) -> bool:
        return self._state is _State.CLOSED

    @property
    def unanswered(self) -> str | None:
        """What an application that has returned owes to a client that waits for the end of the handshake."""
        if self._exchange.disconnected:
            return None
        if self._state is _State.CONNECTING:
            return "returned without answering the handshake"
        return "returned without completing its response" if self._state is _State.DENYING else None

    # --- the application's side -------------------------------------------------------------------

    async def receive(self) -> Message:
        while True:
            if not self._events:
                if self._disconnect is not None:
                    return self._disconnect
                await self._wait()
            elif isinstance(first := self._events[0], Inflation):
                if not self._inflate(first):
                    await asyncio.sleep(0)
            else:
                self._events.popleft()
                self._queued -= size_of(first)
                if self._paused and not self._events and self._stream is not None:
                    self._paused = False
                    self._stream.resume_reading()
                return first

    async def _wait(self) -> None:
        """Wait for a message, or for the end."""
        if self._state is _State.CONNECTING:
            self._exchange.on_disconnect(self._lost)
            if self._exchange.disconnected:
                self._lost()
                return
        if self._waiter is None or self._waiter.done():
            self._waiter = self._loop.create_future()
        await self._waiter

    def _inflate(self, message: Inflation) -> bool:
        """Decompress a piece of the next message; return False while there are more."""
        try:
            content = message.step()
        except frames.FrameError as error:
            self._events.clear()
            if self._state is _State.OPEN and self._stream is not None:
                self._close(self._stream, error.code, error.reason)
            return True
        if content is None:
            return False
        self._queued += len(content) - len(message)
        self._events[0] = received(content)
        return True

    async def send(self, message: Message) -> None:
        kind = message["type"]
        try:
            if self._deflater is None:
                await self._send(kind, message)
            else:
                async with self._sending:
                    await self._send(kind, message)
            if kind == "websocket.send" and self._stream is not None and self._stream.writing_paused:
                await self._stream.drain()
        except ClientGoneError as error:
            self._lost()
            raise ClientDisconnected(f"{kind}: the client has left") from error

    async def _send(self, kind: str, message: Message) -> None:
        if self._state is _State.CONNECTING and self._exchange.disconnected:
            self._lost()
        if self._ended_by_application:
            raise RuntimeError(f"Unexpected ASGI message '{kind}', after the application has ended it.")
        if self._state in (_State.CLOSING, _State.CLOSED):
            if kind != "websocket.close":
                raise ClientDisconnected(f"{kind}: the client has left")
            self._ended_by_application = True  # many applications close whatever has happened
        elif self._stream is not None:
            await self._send_open(self._stream, kind, message)
        elif self._response is not None:
            await self._response.send(message)
            if self._response.complete:
                self._ended_by_application = True
                self._closed(frames.ABNORMAL, "")
        else:
            await self._answer(kind, message)

    async def _send_open(self, stream: RawStream, kind: str, message: Message) -> None:
        if kind == "websocket.send":
            opcode, payload = payload_of(message)
            if self._deflater is None or not payload:
                stream.write(frames.frame(opcode, payload))
                return
            payload = await self._deflater.deflate(payload)
            if self._state is not _State.OPEN:
                raise ClientDisconnected(f"{kind}: the client has left")
            stream.write(frames.frame(opcode, payload, compressed=True))
        elif kind == "websocket.close":
            self._close(stream, *close_of(message))
            self._ended_by_application = True
        else:
            raise RuntimeError(
                f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{kind}'."
            )

    async def _answer(self, kind: str, message: Message) -> None:
        """Answer the handshake as the application says."""
        if kind == "websocket.accept" and self._handshake is not None:
            fields = self._handshake.fields(message.get("subprotocol"), message.get("headers", ()))
            self._compress(self._handshake.compression)
            self._stream = self._exchange.upgrade(fields, self)
            self._state = _State.OPEN
            self._ping_later()
        elif kind == "websocket.close":
            self._state = _State.DENYING
            self._exchange.respond(403, b"Forbidden", [(b"date", http_date())], b"")
            self._ended_by_application = True
            self._closed(frames.ABNORMAL, "")
        elif kind == "websocket.http.response.start":
            response = Response(self._exchange, self._loop, "websocket.http.response")
            await response.send(message)
            self._response = response
            self._state = _State.DENYING
        else:
            raise RuntimeError(
                "Expected ASGI message 'websocket.accept', 'websocket.close' or "
                f"'websocket.http.response.start', but got '{kind}'."
            )

    def _compress(self, agreed: Agreement | None) -> None:
        if agreed is not None:
            limit = self._spec.max_size
            self._deflater, self._inflater = Deflater(agreed), Inflater(agreed, limit)
            self._reader = frames.FrameReader(limit, compression=True)

    # --- the end ----------------------------------------------------------------------------------

    def finish(self, *, failed: bool) -> None:
        """The application has returned, or raised."""
        if self._state is _State.OPEN and self._stream is not None:
            self._close(self._stream, frames.INTERNAL_ERROR if failed else frames.NORMAL, "")
        elif self._state in (_State.CONNECTING, _State.DENYING):
            if not (self._exchange.disconnected or self._exchange.finished):
                if self._response is None or self._response.abandon():
                    respond_failed(self._exchange)
                else:
                    self._exchange.abort()
            self._closed(frames.ABNORMAL, "")

    def go_away(self, service: str) -> None:
        """Close it, since the service stops; a handshake that is not answered yet is answered with 503."""
        if self._state is _State.OPEN and self._stream is not None:
            self._close(self._stream, frames.GOING_AWAY, "the service is stopping")
        elif self._state is _State.CONNECTING:
            respond_unavailable(self._exchange, service)
            self._closed(frames.ABNORMAL, "")

    def abandon(self) -> None:
        """End it without a word: its time is over."""
        if self._stream is not None and self._state is not _State.CLOSED:
            self._stream.abort()
        self._closed(frames.ABNORMAL, "")

    def _close(self, stream: RawStream, code: int, reason: str) -> None:
        """Send a close frame, and close the connection once the client has answered it."""
        frame = frames.close_frame(code, reason)
        self._state = _State.CLOSING
        stream.write(frame)
        self._disconnected(code, reason)
        self._later(CLOSE_TIMEOUT_S, self._give_up)
        if self._paused:
            self._paused = False
            stream.resume_reading()

    def _give_up(self) -> None:
        self._closed(frames.ABNORMAL, "")

    def _lost(self) -> None:
        self._closed(frames.ABNORMAL, "")

    def _closed(self, code: int, reason: str) -> None:
        """The connection is over; the code counts where none came before."""
        if self._state is not _State.CLOSED:
            self._state = _State.CLOSED
            if self._timer is not None:
                self._timer.cancel()
            if self._stream is not None:
                self._stream.close()
        self._disconnected(code, reason)
        self._finish()

    def _disconnected(self, code: int, reason: str) -> None:
        if self._disconnect is None:
            self._disconnect = {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._wake()

    def _finish(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    # --- the client's side ------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        found: list[frames.Received] = []
        error: frames.FrameError | None = None
        try:
            self._reader.feed(data, found)
        except frames.FrameError as broken:
            error = broken
        for one in found:
            self._take(one)
        if error is not None:
            if self._state is _State.OPEN and self._stream is not None:
                self._stream.write(frames.close_frame(error.code, error.reason))
            self._closed(error.code, error.reason)

    def eof_received(self) -> None:
        self._lost()

    def _take(self, one: frames.Received) -> None:
        if self._stream is None or self._state not in (_State.OPEN, _State.CLOSING):
            return
        if isinstance(one, frames.Closed):
            if self._state is _State.OPEN:
                self._stream.write(frames.close_frame(one.code, one.reason))
            self._closed(one.code, one.reason)
        elif self._state is _State.CLOSING:
            return
        elif isinstance(one, frames.Control):
            if one.opcode == frames.PING:
                self._stream.write(frames.frame(frames.PONG, one.payload))
            elif one.payload == self._ping:
                self._ping = None
                self._ping_later()
        elif isinstance(one, frames.Compressed):
            if self._inflater is not None:
                self._queue(self._stream, self._inflater.inflation(one), len(one))
        else:
            self._queue(self._stream, received(one), len(one))

    def _queue(self, stream: RawStream, event: Message | Inflation, size: int) -> None:
        self._events.append(event)
        self._queued += size
        if not self._paused and (len(self._events) >= _MAX_QUEUED or self._queued >= _MAX_QUEUED_BYTES):
            self._paused = True
            stream.pause_reading()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- pings ------------------------------------------------------------------------------------

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, action)

    def _ping_later(self) -> None:
        if self._spec.ping_interval:
            self._later(self._spec.ping_interval, self._send_ping)

    def _send_ping(self) -> None:
        if self._state is not _State.OPEN or self._stream is None:
            return
        self._ping = os.urandom(4)
        self._stream.write(frames.frame(frames.PING, self._ping))
        if self._spec.ping_timeout:
            self._later(self._spec.ping_timeout, self._missed_pong)
        else:
            self._ping_later()

    def _missed_pong(self) -> None:
        if self._state is not _State.OPEN or self._stream is None:
            return
        if self._paused:  # the answer may have come: it waits to be read
            self._later(self._spec.ping_timeout, self._missed_pong)
            return
        self._close(self._stream, frames.INTERNAL_ERROR, "keepalive ping timeout")
        # It may not read either: what is written would be kept, and a `send` wait, until TCP gives up.
        self._later(CLOSE_TIMEOUT_S, self.abandon)

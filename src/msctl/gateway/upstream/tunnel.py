"""A WebSocket tunnel: relays bytes between a client and an upstream.

Frames are not decoded, so ping payloads, fragments and extensions reach the other end unchanged. When the
gateway drains, its close frame is inserted between two frames, never inside one.
"""

from __future__ import annotations

import asyncio
import contextlib

from msctl.gateway.policies.deadline import CLOSING_S, Deadline
from msctl.gateway.upstream.connection import Connection, UpstreamClosedError
from msctl.http.websocket_frames import GOING_AWAY, ClosingRelay
from msctl.model.exchange import RawStream


class Tunnel:
    """Relays until either side closes. Receives the client's bytes (a RawReceiver)."""

    def __init__(self, connection: Connection, deadline: Deadline, idle: float) -> None:
        """`idle` is the time without a byte after which both sides are closed, in seconds; 0 means none."""
        self._connection = connection
        self._deadline = deadline
        self._idle = idle
        self._up = ClosingRelay(self._send_up, masked=True)
        self._pause: asyncio.Task[None] | None = None
        self._leaving: asyncio.TimerHandle | None = None

    async def run(self, stream: RawStream) -> None:
        """Relay; returns when the upstream closes its side, raises if it resets the connection."""
        self._stream = stream
        self._down = ClosingRelay(stream.write, masked=False)
        self._deadline.closing = lambda: self.close(GOING_AWAY)
        self._deadline.extend(self._idle, "tunnel")
        try:
            while data := await self._connection.read():
                if not self._down.closed:
                    self._deadline.extend(self._idle)
                self._down.feed(data)
                if stream.writing_paused:
                    await stream.drain()
        finally:
            if self._leaving is not None:
                self._leaving.cancel()
            if self._pause is not None:
                self._pause.cancel()
                await asyncio.gather(self._pause, return_exceptions=True)
        stream.close()

    def data_received(self, data: bytes) -> None:
        if not self._up.closed:
            self._deadline.extend(self._idle)
        self._up.feed(data)
        if self._connection.writing_paused and self._pause is None:
            self._pause = asyncio.get_running_loop().create_task(self._wait_for_upstream())

    def eof_received(self) -> None:
        """Send the upstream what is left of the client's bytes, and close."""
        self._connection.close()
        if self._leaving is None:
            loop = asyncio.get_running_loop()
            self._leaving = loop.call_later(CLOSING_S, self._connection.abort)

    async def _wait_for_upstream(self) -> None:
        """Stop reading from the client while the upstream's write buffer is full."""
        self._stream.pause_reading()
        await self._connection.drain()
        self._stream.resume_reading()
        self._pause = None

    def close(self, code: int) -> None:
        """Send both sides a close frame with `code`, each at its next frame boundary."""
        self._up.close(code)
        self._down.close(code)

    def abort(self) -> None:
        self._connection.abort()

    def _send_up(self, data: bytes) -> None:
        with contextlib.suppress(UpstreamClosedError):
            self._connection.send(data)

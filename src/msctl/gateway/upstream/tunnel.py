"""A WebSocket tunnel: relays bytes between a client and an upstream.

Frames are not decoded, so ping payloads, fragments and extensions reach the other end unchanged.
`FrameTracker` only follows where frames end: when the gateway drains, its close frame is inserted
between two frames, never inside one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from aiohttp import web

from msctl.gateway.policies.deadline import Deadline
from msctl.gateway.upstream.connection import Connection, UpstreamClosedError
from msctl.gateway.upstream.websocket_frames import FrameTracker, close_frame

GOING_AWAY = 1001


class Tunnel:
    """Relays until either side closes."""

    def __init__(self, connection: Connection, request: web.Request, deadline: Deadline, idle: float) -> None:
        self._connection = connection
        self._request = request
        self._deadline = deadline
        self._idle = idle
        self._up = FrameTracker()
        self._down = FrameTracker()
        self._closing: int | None = None
        self._up_closed = False
        self._down_closed = False
        self._pause: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Relay; returns when the upstream closes its side, raises if it resets the connection."""
        self._deadline.extend(self._idle, "tunnel")
        self._request.protocol.set_parser(self)  # type: ignore[arg-type] # implements its two methods
        writer = self._request.writer
        try:
            while data := await self._connection.read():
                self._deadline.extend(self._idle)
                if self._down_closed:
                    continue
                if self._closing is not None:
                    end = self._down.advance(data, stop=True)
                    await writer.write(data[:end])
                    await self._close_down()
                    continue
                self._down.advance(data)
                await writer.write(data)
        finally:
            if self._pause is not None:
                self._pause.cancel()
                await asyncio.gather(self._pause, return_exceptions=True)

    # --- the parser interface of aiohttp's protocol, for the client's bytes ---------------------------

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._deadline.extend(self._idle)
        if self._up_closed:
            return False, b""
        with contextlib.suppress(UpstreamClosedError):
            if self._closing is not None:
                self._connection.send(data[: self._up.advance(data, stop=True)])
                self._close_up()
            else:
                self._up.advance(data)
                self._connection.send(data)
        if self._connection.writing_paused and self._pause is None:
            self._pause = asyncio.get_running_loop().create_task(self._wait_for_upstream())
        return False, b""

    def feed_eof(self) -> None:
        self._connection.abort()

    async def _wait_for_upstream(self) -> None:
        """Stop reading from the client while the upstream's write buffer is full."""
        transport = self._request.transport
        if transport is not None:
            transport.pause_reading()
            await self._connection.drain()
            if not transport.is_closing():
                transport.resume_reading()
        self._pause = None

    # --- closing --------------------------------------------------------------------------------------

    async def close(self, code: int) -> None:
        """Send both sides a close frame with `code`, each at its next frame boundary."""
        if self._closing is None:
            self._closing = code
            with contextlib.suppress(ConnectionError):
                self._close_up()
                await self._close_down()

    def abort(self) -> None:
        self._connection.abort()

    def _close_up(self) -> None:
        if self._closing is not None and self._up.at_boundary and not self._up_closed:
            self._up_closed = True
            self._connection.send(close_frame(self._closing, mask=os.urandom(4)))

    async def _close_down(self) -> None:
        if self._closing is not None and self._down.at_boundary and not self._down_closed:
            self._down_closed = True
            await self._request.writer.write(close_frame(self._closing))

"""What stands for the connection of aiohttp's own server.

`Connection` has the few names that aiohttp's requests, body readers and WebSockets ask their protocol for,
and `Transport` those of its transport, over an exchange and, after an upgrade, over its stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import EMPTY_PAYLOAD

from msctl.http.websocket_frames import ClosingRelay
from msctl.model.exchange import Exchange, RawStream


class _NoParser:
    """aiohttp pauses its parser with the transport; here there is none."""

    def pause_reading(self) -> None:
        """Do nothing."""


_NO_PARSER = _NoParser()


class Connection(BaseProtocol):
    """What aiohttp's requests, body readers and WebSockets expect of their connection."""

    __slots__ = (
        "_callback",
        "_down",
        "_eof",
        "_exchange",
        "_facade",
        "_feed",
        "_resumed",
        "_up",
        "_waiting",
        "payload",
        "raw",
        "stop_reading",
    )

    ssl_context = None
    """The scheme is told to the request itself."""
    max_field_size = 8190
    max_headers = 128
    """Of the parts of a multipart form, as of aiohttp's own server."""
    _timeout_ceil_threshold = 5.0
    """The seconds from which WebSocket heartbeats are rounded up, as of aiohttp's own server."""

    def __init__(self, exchange: Exchange, loop: asyncio.AbstractEventLoop) -> None:
        self._facade: Transport | None = None
        super().__init__(loop, cast(Any, _NO_PARSER))
        self._exchange = exchange
        self.raw: RawStream | None = None
        self.payload: StreamReader = EMPTY_PAYLOAD
        self.stop_reading: Callable[[], None] | None = None
        self._resumed: asyncio.Event | None = None
        self._feed: Any = None
        self._callback: Callable[[], object] | None = None
        self._waiting: list[bytes] = []
        self._eof = False

    @property
    def peername(self) -> tuple[str, int] | None:
        client = self._exchange.client
        return client if client[0] else None

    @property
    def sockname(self) -> tuple[str, int] | None:
        server = self._exchange.server
        return server if server[0] else None

    @property
    def transport(self) -> asyncio.Transport | None:
        if self._eof or self._exchange.disconnected:
            return None
        if self._facade is None:
            self._facade = Transport(self, self._exchange)
        return self._facade

    @transport.setter
    def transport(self, value: asyncio.Transport | None) -> None:
        """Ignore what the base class sets."""

    async def wait_for_reader(self) -> None:
        """Wait while the application has not read what it was given."""
        if self._resumed is not None:
            await self._resumed.wait()

    def pause_body(self) -> None:
        if self.raw is not None:
            self.raw.pause_reading()
        elif self._resumed is None:
            self._resumed = asyncio.Event()

    def resume_body(self) -> None:
        if self.raw is not None:
            self.raw.resume_reading()
        elif self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    # --- an upgraded connection -----------------------------------------------------------------------

    def upgraded(self, raw: RawStream) -> None:
        self.raw = raw
        self._up = ClosingRelay(self._receive, masked=True)
        self._down = ClosingRelay(raw.write, masked=False)

    def keep_alive(self, value: bool) -> None:
        """Do nothing: an upgraded connection closes."""

    def set_parser(self, parser: Any, data_received_cb: Callable[[], object] | None = None) -> None:
        """Give what the client sends to `parser`."""
        self._feed, self._callback = parser, data_received_cb
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.data_received(data)
        if self._eof:
            parser.feed_eof()

    def data_received(self, data: bytes) -> None:
        if not data:
            return  # the base class asks for what it kept, which is nothing
        if self._feed is None:
            self._waiting.append(data)
            return
        if self._callback is not None:
            self._callback()
        self._up.feed(data)

    def _receive(self, data: bytes) -> None:
        # After a malformed frame the handler still reads what came before it, and sends the close frame.
        self._feed.feed_data(data)

    def eof_received(self) -> None:
        if self._eof:
            return
        self._eof = True
        if self.writing_paused:
            self.resume_writing()
        if self._feed is not None:
            self._feed.feed_eof()

    def send(self, data: bytes) -> None:
        self._down.feed(data)

    def send_close(self, code: int) -> None:
        """Send both sides of a WebSocket a close frame, each at its next frame boundary."""
        if self.raw is not None:
            self._up.close(code)
            self._down.close(code)

    def end(self) -> None:
        """Release what the request held: the application has finished."""
        payload, self.payload = self.payload, EMPTY_PAYLOAD
        if payload is not EMPTY_PAYLOAD:
            if self.stop_reading is not None:
                self.stop_reading()
                self.stop_reading = None
            payload.set_exception(web.PayloadAccessError())
        if self.raw is not None:
            self.raw.close()


class Transport(asyncio.Transport):
    """The transport of a `Connection`, for applications and WebSockets."""

    def __init__(self, connection: Connection, exchange: Exchange) -> None:
        extra = {"peername": connection.peername, "sockname": connection.sockname}
        super().__init__(extra)
        self._connection = connection
        self._exchange = exchange
        self._draining: asyncio.Task[None] | None = None

    @property
    def _sendfile_compatible(self) -> object:
        """Refuse sendfile: FileResponse then writes the file piece by piece."""
        raise NotImplementedError

    def is_closing(self) -> bool:
        return self._exchange.disconnected

    def write(self, data: Any) -> None:
        connection = self._connection
        raw = connection.raw
        if raw is None:
            raise RuntimeError("the connection was not upgraded")
        connection.send(bytes(data))
        if raw.writing_paused and not connection.writing_paused:
            connection.pause_writing()
            self._draining = asyncio.get_running_loop().create_task(self._drain(raw))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    async def _drain(self, raw: RawStream) -> None:
        try:
            await raw.drain()
        except ConnectionError:
            pass  # the reader is told
        if self._connection.writing_paused:
            self._connection.resume_writing()

    def pause_reading(self) -> None:
        self._connection.pause_body()

    def resume_reading(self) -> None:
        self._connection.resume_body()

    def close(self) -> None:
        if self._connection.raw is not None:
            self._connection.raw.close()
        else:
            self.abort()

    def abort(self) -> None:
        if self._connection.raw is not None:
            self._connection.raw.abort()
        else:
            self._exchange.abort()

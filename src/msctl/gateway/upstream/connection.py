"""A connection to an HTTP upstream, on asyncio and `http1`.

Flow control: the connection stops reading while HIGH_WATER bytes are unread, and `drain` waits while
the upstream does not read.
"""

from __future__ import annotations

import asyncio
from typing import cast

from msctl.gateway.message.headers import Fields
from msctl.gateway.message.http1 import (
    IncompleteResponseError,
    MalformedResponseError,
    ResponseHead,
    ResponseReader,
)

HIGH_WATER = 256 * 1024
"""Unread bytes of a response at which the connection stops reading."""


class UpstreamClosedError(ConnectionError):
    """The connection is closed; the text says how."""


class Connection(asyncio.Protocol):
    """Runs one exchange at a time: `begin`, `send`, `head`, then `read` until it returns b""."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.transport: asyncio.Transport | None = None
        self._reader: ResponseReader | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drain_waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._unread = 0
        self._writing_paused = False
        self._reading_paused = False
        self.received = False
        self.exchanges = 0
        self.idle_since = 0.0

    # --- for the pool and the upstream ----------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self.transport is None or self.transport.is_closing()

    @property
    def reusable(self) -> bool:
        return not self.closed and self._reader is not None and self._reader.reusable

    @property
    def writing_paused(self) -> bool:
        return self._writing_paused

    @property
    def pending(self) -> bool:
        """Whether `read` returns without waiting."""
        reader = self._reader
        return reader is not None and (bool(reader.body) or reader.done)

    @property
    def done(self) -> bool:
        return self._reader is not None and self._reader.done and not self._reader.body

    @property
    def trailers(self) -> Fields:
        """The trailer fields of a response that is done."""
        return [] if self._reader is None else self._reader.trailers

    def begin(self, method: str) -> None:
        self._reader = ResponseReader(method)
        self._unread = 0
        self.received = False
        self.exchanges += 1

    def end_exchange(self) -> None:
        """End the exchange; any byte received from now on is an error."""
        self._reader = None

    def send(self, data: bytes) -> None:
        """Queue `data`; raises UpstreamClosedError if the connection is closed."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise UpstreamClosedError(str(self._error or "it closed the connection"))
        transport.write(data)

    async def drain(self) -> None:
        """Wait until the write buffer has room."""
        if self._writing_paused and self.transport is not None:
            if self._drain_waiter is None:
                self._drain_waiter = self._loop.create_future()
            await self._drain_waiter

    async def head(self) -> ResponseHead:
        """Return the next head, interim or final.

        Raises MalformedResponseError, IncompleteResponseError or the error passed to `fail`.
        """
        reader = self._current()
        while True:
            if reader.interim:
                return reader.interim.pop(0)
            if reader.head is not None:
                return reader.head
            if self._error is not None:
                raise self._error
            await self._wait()

    async def read(self) -> bytes:
        """Return the body received so far, b"" at its end; raises as `head` does."""
        reader = self._current()
        while not reader.body:
            if reader.done and not reader.upgraded:
                return b""
            if self._error is not None:
                if reader.upgraded and isinstance(self._error, IncompleteResponseError):
                    return b""
                raise self._error
            await self._wait()
        pieces = reader.body
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._unread = 0
        if self._reading_paused and self.transport is not None:
            self._reading_paused = False
            self.transport.resume_reading()
        return data

    def fail(self, error: Exception) -> None:
        """Abort the exchange: its waiters get `error`."""
        if self._error is None:
            self._error = error
        self.abort()
        self._wake()

    def abort(self) -> None:
        """Close without flushing."""
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def _current(self) -> ResponseReader:
        if self._reader is None:
            raise RuntimeError("no exchange has begun on this connection")
        return self._reader

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # --- callbacks of the event loop ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            # Bytes without a request: they could be taken for the response to the next one.
            self.close()
            return
        self.received = True
        try:
            reader.feed(data)
        except MalformedResponseError as error:
            self.fail(error)
            return
        self._unread += len(data)
        if self._unread > HIGH_WATER and not self._reading_paused and self.transport is not None:
            self._reading_paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._end(exc)
        if self._drain_waiter is not None and not self._drain_waiter.done():
            self._drain_waiter.set_result(None)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._drain_waiter is not None:
            if not self._drain_waiter.done():
                self._drain_waiter.set_result(None)
            self._drain_waiter = None

    def _end(self, exc: Exception | None = None) -> None:
        if self._error is None and self._reader is not None:
            if exc is not None and not self._reader.done:
                self._error = UpstreamClosedError("it reset the connection")
            else:
                try:
                    self._reader.feed_eof()
                except IncompleteResponseError as error:
                    self._error = error
                else:
                    if self._reader.upgraded:
                        self._error = IncompleteResponseError("it ended the upgraded connection")
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

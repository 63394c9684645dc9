"""An exchange whose response is sent slowly, or cut off: carries out the body's faults.

What the handler writes waits here, in bounded amounts, and `run` sends it on piece by piece.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from msctl.faults.http import BodyPace
from msctl.model.exchange import ClientGoneError, Exchange, Field, Fields, RawReceiver, RawStream
from msctl.model.wrapped_exchange import WrappedExchange

HIGH = 65536
"""Waiting bytes above which the handler is told to wait."""
SEND_S = 0.02
"""Seconds for the last bytes to leave before a connection is aborted behind them."""


class CutError(ConnectionError):
    """The response was cut off on purpose."""


class PacedExchange(WrappedExchange):
    """The exchange `inner`, its response's body sent at a pace. `run` must run beside the handler.

    `progressed` is called with each piece, so that a deadline does not take slowness for silence.
    """

    def __init__(
        self,
        inner: Exchange,
        pace: BodyPace,
        sleep: Callable[[float], Awaitable[None]],
        progressed: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(inner)
        self._pace = pace
        self._sleep = sleep
        self._progressed = progressed
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._sent = 0
        self._trailers: Sequence[Field] = ()
        self._changed = asyncio.Event()
        self._moved = asyncio.Event()
        self._upgraded = False
        self._ended = False
        self.finished = False
        """Whether the handler has finished; the client's response ends with `run`."""

    def start(self, status: int, reason: bytes, fields: Sequence[Field], *, length: int | None) -> None:
        self._inner.start(status, reason, fields, length=length)
        self._inner.flush()

    def upgrade(self, fields: Fields, receiver: RawReceiver) -> RawStream:
        self._upgraded = self.finished = True
        self._changed.set()
        return super().upgrade(fields, receiver)

    # --- what waits ---------------------------------------------------------------------------------

    @property
    def writing_paused(self) -> bool:
        return self._waiting > HIGH or self._inner.writing_paused

    def write(self, data: bytes) -> None:
        if data and not self._ended:
            self._pieces.append(data)
            self._waiting += len(data)
            self._changed.set()

    def finish(self, data: bytes = b"", trailers: Sequence[Field] = ()) -> None:
        self.write(data)
        self._trailers = trailers
        self.finished = True
        self._changed.set()

    def respond(self, status: int, reason: bytes, fields: Sequence[Field], body: bytes) -> None:
        self.start(status, reason, fields, length=len(body))
        self.finish(body)

    async def drain(self) -> None:
        while self._waiting > HIGH and not self._ended and not self._inner.disconnected:
            self._moved.clear()
            await self._moved.wait()
        if self._inner.disconnected or (self._ended and not self._inner.finished):
            raise ClientGoneError("the client closed the connection")
        if self._inner.writing_paused:
            await self._inner.drain()

    # --- the pace -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send what waits until the response is complete. Raises CutError and ClientGoneError."""
        inner, pace = self._inner, self._pace
        try:
            while True:
                while not self._pieces and not self.finished:
                    self._changed.clear()
                    await self._changed.wait()
                if self._upgraded:
                    return
                if not self._pieces:
                    break
                await self._sleep(pace.pause)
                self._send(self._take(pace.size))
                if self._is_cut:
                    await self._sleep(SEND_S)
                    inner.abort()
                    raise CutError("the response was cut off on purpose")
                if inner.disconnected:
                    raise ClientGoneError("the client closed the connection")
                self._progressed()
                if inner.writing_paused:
                    await inner.drain()
            if not inner.finished:
                inner.finish(b"", self._trailers)
        finally:
            self._ended = True
            self._moved.set()

    @property
    def _is_cut(self) -> bool:
        """Whether the place of the cut is reached; a body that ends before it is not cut."""
        cut = self._pace.cut_after
        return cut is not None and self._sent >= cut

    def _take(self, size: int) -> bytes:
        data = self._pieces.popleft()
        if len(data) > size:
            self._pieces.appendleft(data[size:])
            data = data[:size]
        self._waiting -= len(data)
        self._moved.set()
        return data

    def _send(self, data: bytes) -> None:
        cut = self._pace.cut_after
        if cut is not None:
            data = data[: max(0, cut - self._sent)]
        self._sent += len(data)
        if data:
            self._inner.write(data)

"""The body of a request: a stream with bounded memory.

The connection appends what arrives and stops reading from the socket when `HIGH_WATER` bytes wait; a `read`
takes all that waits and lets it read on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from msctl.model.exchange import ClientGoneError, Field, RequestError

HIGH_WATER = 64 * 1024
"""The bytes that wait for a reader before the client is made to wait."""


class BodySource(Protocol):
    """The connection that a body arrives on."""

    def body_wanted(self) -> None:
        """The handler reads: continue reading, and send a 100 if the client waits for it."""
        ...


class EmptyBody:
    """The body of a request that has none."""

    __slots__ = ()

    complete = True
    failed = False
    received = 0
    trailers: Sequence[Field] = ()

    async def read(self) -> bytes:
        return b""

    def take(self) -> bytes:
        return b""


EMPTY = EmptyBody()


class BodyStream:
    """A body that arrives piece by piece. `append`, `end` and `fail` are the connection's."""

    __slots__ = ("_error", "_pieces", "_source", "_waiter", "complete", "received", "trailers", "waiting")

    def __init__(self, source: BodySource) -> None:
        self._source = source
        self._pieces: list[bytes] = []
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.waiting = 0
        self.complete = False
        self.received = 0
        self.trailers: Sequence[Field] = ()

    async def read(self) -> bytes:
        if isinstance(self._error, RequestError):
            raise self._error
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self.complete:
                return b""
            if self._waiter is not None:
                raise RuntimeError("two tasks read the same body")
            self._source.body_wanted()
            self._waiter = waiter = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                if self._waiter is waiter:
                    self._waiter = None
        piece = self.take()
        if not self.complete:
            self._source.body_wanted()
        return piece

    def take(self) -> bytes:
        pieces = self._pieces
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.waiting = 0
        return piece

    def append(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.waiting += len(piece)
        self.received += len(piece)
        self._wake()

    def end(self, trailers: Sequence[Field]) -> None:
        self.trailers = trailers
        self.complete = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """Raise `error` from `read`: at once if the body is malformed, else after what has arrived."""
        if not self.complete and self._error is None:
            self._error = error
            self._wake()

    def interrupt(self) -> None:
        """End a `read` that waits: the response is finished, and the connection reads what is left."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(ClientGoneError("the response is finished"))

    @property
    def failed(self) -> bool:
        return self._error is not None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

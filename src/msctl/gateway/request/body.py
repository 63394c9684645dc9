"""The body of a forwarded request: limited, and kept for a retry if it is small."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msctl.gateway.message.headers import Field
from msctl.http.body import EMPTY
from msctl.model.exchange import RequestBody, RequestError


class ForwardedBody:
    """A request's body: `length` bytes, or chunks. Reading more than `limit` bytes (0 = no limit) fails.

    `kept` holds the whole body once it was buffered, so that it can be sent again; any other body can be
    read only once.

    `waiting` is whether a reader waits for the client; `on_waiting` is called when it begins and ends.
    """

    __slots__ = ("_begun", "_limit", "_taken", "kept", "length", "on_waiting", "source", "waiting")

    def __init__(self, source: RequestBody, *, length: int | None, limit: int) -> None:
        self.source = source
        self.length = length
        self.kept: bytes | None = None
        self._limit = limit
        self._begun = False
        self._taken = False
        self.waiting = False
        self.on_waiting: Callable[[], object] | None = None

    @property
    def replayable(self) -> bool:
        return self.kept is not None or not self._begun

    @property
    def complete(self) -> bool:
        return self.kept is not None or self.source.complete

    @property
    def finished(self) -> bool:
        """Whether nothing of it is left to read."""
        return self.kept is not None or self._taken

    @property
    def failed(self) -> bool:
        return self.kept is None and self.source.failed

    @property
    def received(self) -> int:
        return self.source.received

    @property
    def trailers(self) -> Sequence[Field]:
        return self.source.trailers

    async def read(self) -> bytes:
        """As RequestBody.read; raises RequestError (413) if the body is too long."""
        if self.kept is not None:
            return self._take_kept()
        self._begun = True
        self._wait(waiting=not self.source.complete)
        try:
            data = await self.source.read()
        finally:
            self._wait(waiting=False)
        self._check()
        if not data:
            self._taken = True
        return data

    def take(self) -> bytes:
        """As RequestBody.take; raises RequestError (413) if the body is too long."""
        if self.kept is not None:
            return self._take_kept()
        self._begun = True
        self._check()
        self._taken = True
        return self.source.take()

    async def keep(self) -> bytes:
        """Buffer the whole body, so that it can be sent again."""
        if self.kept is None:
            pieces: list[bytes] = []
            while piece := await self.read():
                pieces.append(piece)
            self.kept = b"".join(pieces)
        return self.kept

    def rewind(self) -> None:
        """Let the next attempt read a kept body from its beginning."""
        self._taken = False

    def _wait(self, *, waiting: bool) -> None:
        if self.waiting is not waiting:
            self.waiting = waiting
            if self.on_waiting is not None:
                self.on_waiting()

    def _take_kept(self) -> bytes:
        if self._taken or self.kept is None:
            return b""
        self._taken = True
        return self.kept

    def _check(self) -> None:
        if self._limit and self.source.received > self._limit:
            raise RequestError(413, too_large(self._limit))


NO_BODY = ForwardedBody(EMPTY, length=None, limit=0)
NO_BODY.kept = b""


def too_large(limit: int) -> str:
    return f"The request's body is longer than the {limit} bytes that max_body allows."

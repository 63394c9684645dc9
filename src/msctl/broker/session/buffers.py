"""What a connection has received and not yet read, and what it is to send. No sockets."""

from __future__ import annotations

from collections.abc import Callable

from msctl.broker.core.consumers import QueueConsumer
from msctl.broker.protocol import wire

OUTPUT_HIGH = 128 * 1024
"""Bytes to send at which no more messages are delivered until some have been written."""

OUTPUT_MAX = 8 * 1024 * 1024
"""Bytes to send, replies and all, at which no more is read from a peer that does not read."""


class Inbox:
    """Received bytes. Between `gather` and `compact`, `data` from `position` on is what is to be read."""

    __slots__ = ("_chunks", "_needed", "_size", "data", "position")

    def __init__(self) -> None:
        self.data = b""
        self.position = 0
        self._chunks: list[bytes] = []
        self._size = 0
        self._needed = 0

    def add(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)

    def gather(self) -> bool:
        """Join what has come, once it is enough for another frame; whether there is enough."""
        if self._size < self._needed:
            return False
        if self._chunks:
            rest = self.data[self.position :]
            whole = not rest and len(self._chunks) == 1
            self.data = self._chunks[0] if whole else b"".join((rest, *self._chunks))
            self._chunks = []
            self.position = 0
        return True

    def compact(self, *, starved: bool) -> None:
        """Reading has stopped; `starved` says that the next frame is not there as a whole."""
        data, position = self.data, self.position
        left = self._size = len(data) - position
        if not starved:
            self._needed = 0
        elif left < wire.FRAME.size:
            self._needed = wire.FRAME.size if left else 0
        else:
            self._needed = wire.FRAME_OVERHEAD + wire.FRAME.unpack_from(data, position)[2]
        if not left:
            self.data = b""
            self.position = 0

    def discard(self) -> None:
        self._chunks = []
        self.data = b""
        self.position = self._size = self._needed = 0


class Outbox:
    """Bytes to send. `mark` is called when there is something after there was nothing.

    While `congested`, consumers get nothing; those that were due something are in `parked`.
    """

    __slots__ = (
        "_late",
        "_mark",
        "_parts",
        "_unwritten",
        "_writable",
        "congested",
        "frame_max",
        "parked",
        "size",
    )

    def __init__(self, mark: Callable[[], None]) -> None:
        self.frame_max = wire.FRAME_MIN
        self.congested = False
        self.parked: set[QueueConsumer] = set()
        self.size = 0
        self._mark = mark
        self._parts: list[bytes] = []
        self._late: list[bytes] = []
        self._writable = True
        self._unwritten = 0

    def send(self, data: bytes) -> None:
        if not self._parts:
            self._mark()
        self._parts.append(data)
        self.size += len(data)
        if self.size > OUTPUT_HIGH:
            self.congested = True

    def send_parts(self, parts: tuple[bytes, ...], size: int) -> None:
        """Send a delivery's frames, and stop the next when too much waits to be written."""
        mine = self._parts
        if not mine:
            self._mark()
        mine += parts
        self.size += size
        if self.size > OUTPUT_HIGH:
            self.congested = True

    def send_late(self, data: bytes) -> None:
        """Send behind the replies that are about to be written."""
        self._late.append(data)
        self._mark()

    @property
    def empty(self) -> bool:
        return not self._parts and not self._late

    @property
    def full(self) -> bool:
        """Whether the peer leaves so much unread that it must not be answered any more."""
        return self.size + self._unwritten > OUTPUT_MAX

    def take(self) -> bytes:
        """All there is to send; `written` follows."""
        data = b"".join(self._parts + self._late)
        self._parts = []
        self._late = []
        self.size = 0
        if not self._writable:
            self._unwritten += len(data)
        return data

    def written(self, *, writable: bool) -> None:
        """What was taken has gone to the socket; not `writable` while the peer does not read on."""
        self._writable = writable
        if not writable:
            self.congested = True
            return
        self._unwritten = 0
        if self.congested and self.size <= OUTPUT_HIGH:
            self.congested = False
            parked, self.parked = self.parked, set()
            for consumer in parked:
                consumer.wake()

    def discard(self) -> None:
        self._parts = []
        self._late = []
        self.size = 0

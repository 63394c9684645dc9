"""A connection's input and output buffers. No sockets."""

from __future__ import annotations

from collections.abc import Callable

from msctl.broker.core.consumers import QueueConsumer
from msctl.broker.protocol import wire

OUTPUT_HIGH = 128 * 1024
"""Bytes of output above which deliveries stop until some output is written."""

OUTPUT_MAX = 8 * 1024 * 1024
"""Bytes of output, replies included, above which the peer's input is no longer read."""


class Inbox:
    """Received bytes. Between `gather` and `compact`, `data[position:]` is the unread input."""

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
        """Join the received chunks if they complete another frame; return whether they do."""
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
        """End a round of reading; `starved` means that the next frame is incomplete."""
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
    """Output bytes. `mark` is called when an empty buffer gets output.

    While `congested`, nothing is delivered; consumers with waiting messages are in `parked`.
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
        """Append the frames of one delivery, `size` bytes; set `congested` above OUTPUT_HIGH."""
        mine = self._parts
        if not mine:
            self._mark()
        mine += parts
        self.size += size
        if self.size > OUTPUT_HIGH:
            self.congested = True

    def send_late(self, data: bytes) -> None:
        """Append after everything that `send` appends before the next write."""
        self._late.append(data)
        self._mark()

    @property
    def empty(self) -> bool:
        return not self._parts and not self._late

    @property
    def full(self) -> bool:
        """Whether the peer has left more than OUTPUT_MAX bytes unread."""
        return self.size + self._unwritten > OUTPUT_MAX

    def take(self) -> bytes:
        """Return and clear the output; the caller calls `written` next."""
        data = b"".join(self._parts + self._late)
        self._parts = []
        self._late = []
        self.size = 0
        if not self._writable:
            self._unwritten += len(data)
        return data

    def written(self, *, writable: bool) -> None:
        """Record a write to the socket; `writable` is False while the socket's buffer is full."""
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

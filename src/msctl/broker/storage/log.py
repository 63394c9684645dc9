"""The log while the broker runs: collects records, writes them in blocks, drops and empties old segments.

Implements `core.journal.Journal`. The journal's methods only collect. `write` turns what has been
collected into a block and writes a bounded part of it; the server calls it once a turn of the event loop.
If a write fails, nothing is lost: the rest of the block is written by a later call.

The log is bounded: it takes no more than about twice the live data, plus two segments. Beyond that, `tidy`
moves the live entries of the oldest segment to the newest one, a slice at a time, and drops the segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Protocol

from msctl.broker.core.journal import Entries, StoredDelay
from msctl.broker.core.messages import Message
from msctl.broker.protocol.tables import Table
from msctl.broker.storage import records
from msctl.broker.storage.blocks import (
    SEGMENT_HEADER,
    BlockWriter,
    Buffer,
    DamagedError,
    SegmentInfo,
    segment_header,
)
from msctl.broker.storage.liveness import Liveness, Segment
from msctl.broker.storage.records import Item, StoredBinding, StoredExchange, StoredMeta, StoredQueue
from msctl.clock import Clock

SEGMENT_SIZE = 16 * 1024 * 1024
"""Bytes from which on a segment is sealed."""
SLICE = 512 * 1024
"""Bytes that one call of `write` writes, unless much is waiting."""
SLICE_MAX = 2 * 1024 * 1024
MOVED_SLICE = 128 * 1024
"""Bytes of the oldest segment that one call of `tidy` looks at."""
ADOPTED_BLOCK = 4 * 1024 * 1024
ENTRY_COST = 96
"""Bytes of an entry besides its properties and body: no less than its record takes."""


class SegmentFiles(Protocol):
    """Where segments are kept."""

    def create(self, number: int, head: bytes) -> int:
        """Create a segment; return its descriptor. Raises OSError."""
        ...

    def blocks(self, number: int) -> Iterator[bytes]:
        """The payloads of a segment's blocks, in order. Raises OSError and DamagedError."""
        ...

    def write(self, descriptor: int, data: Buffer) -> int:
        """Append to a segment; return how many bytes were written. Raises OSError."""
        ...

    def truncate(self, descriptor: int, size: int) -> None:
        """Raises OSError."""
        ...

    def release(self, descriptor: int) -> None:
        """Close a segment."""
        ...


class Log:
    """A log that is open for appending. `live_bytes` counts a message once for each queue that has it."""

    def __init__(
        self,
        files: SegmentFiles,
        liveness: Liveness,
        clock: Clock,
        *,
        last: int,
        newest: int,
        report: Callable[[str], None],
        segment_size: int = SEGMENT_SIZE,
    ) -> None:
        """`last` is the highest entry number, `newest` the descriptor of the newest segment, `report` is
        called with the text of each problem."""
        self.position = 1
        """The block that takes what is recorded next."""
        self.durable = 0
        self.written = 0
        """The last block that is written as a whole."""
        self.last = last
        self.live_bytes = 0
        self.messages = 0
        self.descriptor = newest
        self.closing: list[int] = []
        """Descriptors of sealed segments, to be synchronized and closed by the owner."""
        self.created = False
        """Whether a file was created since the owner last synchronized the folder."""
        self._files = files
        self._liveness = liveness
        self._clock = clock
        self._report = report
        self._segment_size = segment_size
        self._pieces: list[Buffer] = []
        self._size = 0
        self._last_records = b""
        """What follows everything else in the next block."""
        self._removed: list[int] = []
        self._forgotten: list[int] = []
        self._sizes: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self._first = liveness.segments[0].number
        self._block: BlockWriter | None = None
        self._unwritten: Buffer = b""
        self._next: tuple[Segment, int] | None = None
        self._doomed: list[tuple[int, int]] = []
        self._moving: Iterator[None] | None = None
        self._stuck = False
        self._adopting = False
        self.unsynced = 0
        """Bytes of blocks that are kept until they are known to be on the disk."""
        self._unsynced: list[tuple[int, list[Buffer], int]] = []

    # --- journal ---

    def recorded(self) -> int:
        return self.position if self._size or self._removed else self.position - 1

    def put_queue(self, vhost: str, name: str, *, auto_delete: bool, arguments: Table) -> int:
        return self._put(StoredQueue(vhost, name, auto_delete, arguments))

    def put_exchange(
        self, vhost: str, name: str, kind: str, *, auto_delete: bool, internal: bool, arguments: Table
    ) -> int:
        return self._put(StoredExchange(vhost, name, kind, auto_delete, internal, arguments))

    def put_binding(
        self, vhost: str, source: str, destination: str, kind: str, key: str, arguments: Table
    ) -> int:
        return self._put(StoredBinding(vhost, source, destination, kind, key, arguments))

    def put_delayed(self, message: StoredDelay) -> int:
        return self._put(message)

    def put_meta(self, kind: str, key: str, document: bytes) -> int:
        return self._put(StoredMeta(kind, key, document))

    def _put(self, item: Item) -> int:
        self.last = number = self.last + 1
        record = records.item_record(number, item)
        self._append(record)
        self.recovered_item(number, len(record))
        return number

    def recovered_item(self, number: int, size: int) -> None:
        """Count a live item that takes `size` bytes."""
        self._sizes[number] = size + ENTRY_COST
        self.live_bytes += size + ENTRY_COST

    def recovered_message(self, count: int, size: int) -> None:
        """Count `count` live messages with properties and bodies of `size` bytes in all."""
        self.messages += count
        self.live_bytes += size + count * ENTRY_COST

    def recovered_counts(self, counts: Mapping[int, int]) -> None:
        """Note how often live messages have been delivered."""
        self._counts.update(counts)

    def drop(self, number: int) -> None:
        self._removed.append(number)
        self.live_bytes -= self._sizes.pop(number, 0)

    def enter(self, queue: int, expires: float | None, entries: Entries) -> int:
        self.last = number = self.last + 1
        entries.append((number, queue, 0.0 if expires is None else expires + self._epoch()))
        return number

    def _epoch(self) -> float:
        return self._clock.time() - self._clock.monotonic()

    def store(self, route: bytes, properties: bytes, body: bytes, entries: Entries) -> None:
        head = records.message_head(route, properties, body, entries)
        self._pieces += (head, route, properties, body)
        content = len(properties) + len(body)
        self._size += len(head) + len(route) + content
        count = len(entries)
        self.messages += count
        self.live_bytes += (content + ENTRY_COST) * count

    def remove(self, message: Message) -> None:
        self._removed.append(message[4])
        self.messages -= 1
        self.live_bytes -= len(message[1]) + len(message[2]) + ENTRY_COST

    def count(self, number: int, deliveries: int) -> None:
        self._counts[number] = deliveries
        self._append(records.counted_record(number, deliveries))

    def purge(self, queue: int, kept: set[int]) -> None:
        self._append(records.purged_record(queue, self.last + 1, kept))

    def forget(self, message: Message) -> None:
        self._forgotten.append(message[4])
        self.messages -= 1
        self.live_bytes -= len(message[1]) + len(message[2]) + ENTRY_COST

    def adopt(self, everything: Iterable[tuple[tuple[bytes, ...], int]]) -> None:
        """Write all live entries again, given as (pieces of the record, number), to the newest segment.

        The others leave the log once that is done. On a full disk, the rest is written later.
        """
        full = False
        self._adopting = True
        for pieces, number in everything:
            self._liveness.adopt(number)
            for piece in pieces:
                self._append(piece)
            if number in self._counts:
                self._append(records.counted_record(number, self._counts[number]))
            if self._size >= ADOPTED_BLOCK and not full:
                try:
                    self.write(whole=True)
                except OSError:
                    full = True
        self._adopting = False

    # --- writing ---

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self._liveness.segments)

    @property
    def waiting(self) -> int:
        """Bytes that are collected and not written, about; 0 if there is nothing to write."""
        rest = self._size + records.NUMBER_SIZE * (len(self._removed) + len(self._forgotten))
        return rest + (0 if self._block is None else self._block.size)

    def opened(self) -> None:
        """Record that the log is in use, so that it does not count as closed."""
        self._append(bytes((records.OPENED,)))

    def closed(self, delivered: list[int]) -> None:
        """Record that the log is closed, and which messages have been delivered before."""
        self._last_records = records.numbers_record(records.DELIVERED, delivered) + bytes((records.CLOSED,))
        self._size += len(self._last_records)

    def _append(self, record: bytes) -> None:
        self._pieces.append(record)
        self._size += len(record)

    def write(self, *, whole: bool = False) -> bool:
        """Write some of what waits, or all of it if `whole`; return whether more waits.

        Raises OSError; the next call continues.
        """
        budget = min(max(SLICE, self.waiting // 4), SLICE_MAX)
        while whole or budget > 0:
            if self._block is None and not self._begin():
                return False
            budget -= self._write_slice(SLICE_MAX if whole else budget)
        return True

    def _write_slice(self, limit: int) -> int:
        if not self._unwritten and self._block is not None:
            self._unwritten = self._block.take(limit)
            if not self._unwritten:
                self._end(self._block)
                return 0
        count = self._files.write(self.descriptor, self._unwritten)
        self._unwritten = memoryview(self._unwritten)[count:]
        return count

    def _begin(self) -> bool:
        """Turn what has been collected into a block; return whether there is anything. Raises OSError."""
        current = self._liveness.segments[-1]
        if not self.waiting:
            return False
        if current.size + self._size >= self._segment_size and self._next is None:
            self._next = self._create(current.number + 1)
        removed, self._removed = self._removed, []
        forgotten, self._forgotten = self._forgotten, []
        if removed:
            self._append(records.numbers_record(records.REMOVED, removed))
        if self._next is not None:
            self._append(bytes((records.SEALED,)))
            self._next[0].base = self.last + 1
        if self._last_records:
            self._pieces.append(self._last_records)
            self._last_records = b""
        self._liveness.put(current, self.last + 1)
        self._liveness.remove(removed)
        self._liveness.remove(forgotten)
        if self._counts:
            for number in (*removed, *forgotten):
                self._counts.pop(number, None)
        if not self._drop_dead() and not self._size:
            return False
        pieces, self._pieces = self._pieces, []
        size, self._size = self._size, 0
        self._unsynced.append((self.position, pieces, size))
        self.unsynced += size
        info = SegmentInfo(current.number, self._first, current.base)
        self._block = BlockWriter(pieces.copy(), size, info, current.size)
        self.position += 1
        return True

    def _create(self, number: int) -> tuple[Segment, int]:
        base = self.last + 1
        head = segment_header(SegmentInfo(number, self._first, base))
        descriptor = self._files.create(number, head)
        self.created = True
        return Segment(number, base, SEGMENT_HEADER.size), descriptor

    def synced(self, position: int) -> None:
        """Record that all blocks up to `position` are safe, whatever becomes of the machine."""
        self._unsynced = [one for one in self._unsynced if one[0] > position]
        self.unsynced = sum(size for _, _, size in self._unsynced)

    def start_over(self) -> None:
        """Begin a new segment and write there again what is not known to be safe. Raises OSError.

        After a failed synchronization, what the segment holds since the last one is uncertain.
        """
        current = self._liveness.segments[-1]
        if self._next is not None:
            self._files.release(self._next[1])
            self._next = None
        with suppress(OSError):
            self._files.truncate(self.descriptor, current.size)  # the part of a block that is being written
        segment, descriptor = self._create(current.number + 1)
        segment.base = current.base + len(current.flags)
        self._block = None
        self._unwritten = b""
        unsynced, self._unsynced = self._unsynced, []
        self._pieces = [piece for _, pieces, _ in unsynced for piece in pieces] + self._pieces
        self._size += self.unsynced
        self.unsynced = 0
        self._liveness.add(segment)
        self.closing.append(self.descriptor)
        self.descriptor = descriptor

    def _end(self, block: BlockWriter) -> None:
        """The block is written as a whole."""
        self._block = None
        self._liveness.segments[-1].size += block.size
        self.written = self.position - 1
        if self._next is not None:
            segment, descriptor = self._next
            self._next = None
            self._liveness.add(segment)
            self.closing.append(self.descriptor)
            self.descriptor = descriptor

    # --- old segments ---

    def _drop_dead(self) -> bool:
        """Take segments without live entries out of the log, the oldest ones; return whether there are any.

        Their files go once a block that says so is safe.
        """
        segments = self._liveness.segments
        dropped = False
        while len(segments) > 1 and not segments[0].live and not self._moving and not self._adopting:
            self._doomed.append((self.position, self._liveness.drop_oldest().number))
            self._first = segments[0].number
            dropped = True
        return dropped

    def take_doomed(self) -> list[int]:
        """The numbers of segments whose files are no longer needed; each is returned once."""
        ready = [number for position, number in self._doomed if position <= self.durable]
        if ready:
            self._doomed = [one for one in self._doomed if one[0] > self.durable]
        return ready

    def tidy(self) -> bool:
        """Move some live entries out of the oldest segment if the log is too large; return whether more
        remains to be done.

        Must not be called between a purge and the last `forget` that belongs to it.
        """
        if self._block is not None or self._next is not None or self._forgotten:
            return self._moving is not None
        if self._moving is None:
            allowed = 2 * (self.live_bytes + self._segment_size)
            if self._stuck or len(self._liveness.segments) < 2 or self.size <= allowed:
                return False
            self._moving = self._move(self._liveness.segments[0])
        try:
            next(self._moving)
        except StopIteration:
            self._moving = None
        except (OSError, DamagedError) as error:
            self._moving = None
            self._stuck = True
            number = self._liveness.segments[0].number
            self._report(f"segment {number} cannot be read and is kept as it is: {error}")
        return self._moving is not None

    def _move(self, source: Segment) -> Iterator[None]:
        """Write the live entries of the oldest segment again; yields after each slice."""
        looked_at = 0
        for payload in self._files.blocks(source.number):
            for put in records.puts(payload):
                entries = [entry for entry in put.entries if self._liveness.lives_in(entry[0], source)]
                if entries:
                    for piece in put.again(payload, entries):
                        self._append(piece)
                    for number, _, _ in entries:
                        self._liveness.move(number, source, self._liveness.segments[-1])
                        if number in self._counts:
                            self._append(records.counted_record(number, self._counts[number]))
                looked_at += put.end - put.start
                if looked_at >= MOVED_SLICE:
                    looked_at = 0
                    yield

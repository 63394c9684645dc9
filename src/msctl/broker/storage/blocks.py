"""The framing of the log: segment headers and blocks, with checksums. Pure.

A segment is `SEGMENT_HEADER`, then blocks. A block is `BLOCK_HEADER`, the payload, and the payload's
CRC-32. The header has a checksum of its own, which covers the segment's number and the block's position
too: a damaged length cannot hide what follows, and a block is found again after damage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from struct import Struct
from zlib import crc32

MAGIC = b"msctlLOG"
VERSION = 1
SEGMENT_HEADER = Struct("<8sIQQQI")
"""Magic, format version, segment number, first segment of the log, first entry number, CRC-32."""
_MARK = b"\xb1LK\n"
BLOCK_HEADER = Struct("<4sQQI")
"""Mark, payload length, first segment of the log, CRC-32."""
CRC = Struct("<I")
_PLACE = Struct("<QQ")
_CHUNK = 64 * 1024

Buffer = bytes | memoryview


class Header(Enum):
    """What the beginning of a file says, if it is no valid segment header."""

    DAMAGED = "damaged"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A segment's header: its number, the log's first segment, and its first entry number."""

    number: int
    first: int
    base: int


class DamagedError(Exception):
    """The log holds bytes that it should not hold."""


class OtherVersionError(Exception):
    """A segment has another format version: the first argument."""


def segment_header(info: SegmentInfo) -> bytes:
    head = SEGMENT_HEADER.pack(MAGIC, VERSION, info.number, info.first, info.base, 0)[: -CRC.size]
    return head + CRC.pack(crc32(head))


def read_segment_header(data: bytes, number: int) -> SegmentInfo | Header:
    """Decode the header of segment `number`. Raises OtherVersionError."""
    if len(data) < SEGMENT_HEADER.size:
        return Header.INCOMPLETE
    magic, version, found, first, base, checksum = SEGMENT_HEADER.unpack_from(data)
    intact = crc32(data[: SEGMENT_HEADER.size - CRC.size]) == checksum
    if magic == MAGIC and version != VERSION and (intact or version < 1000):
        raise OtherVersionError(version)
    if magic != MAGIC or not intact or found != number:
        return Header.DAMAGED
    return SegmentInfo(number, first, base)


def block_header(length: int, first: int, number: int, position: int) -> bytes:
    head = BLOCK_HEADER.pack(_MARK, length, first, 0)[: -CRC.size]
    return head + CRC.pack(crc32(_PLACE.pack(number, position), crc32(head)))


def read_block_header(data: bytes, at: int, number: int, position: int) -> tuple[int, int] | None:
    """Payload length and first segment, from the header at `data[at:]`; None if it is invalid."""
    mark, length, first, checksum = BLOCK_HEADER.unpack_from(data, at)
    head = data[at : at + BLOCK_HEADER.size - CRC.size]
    if mark != _MARK or crc32(_PLACE.pack(number, position), crc32(head)) != checksum:
        return None
    return length, first


def check_block(rest: bytes, length: int, position: int) -> bytes:
    """The payload of a block from what follows its header. Raises DamagedError."""
    if len(rest) < length + CRC.size:
        raise DamagedError(f"the block at {position} is incomplete")
    payload = rest[:length]
    if crc32(payload) != CRC.unpack_from(rest, length)[0]:
        raise DamagedError(f"the block at {position} has a wrong checksum")
    return payload


def read_blocks(read: Callable[[int, int], bytes], size: int, number: int) -> Iterator[bytes]:
    """The payloads of the blocks of segment `number`, one at a time. Raises DamagedError.

    The segment has `size` bytes; `read` returns those at a position, so many or up to the end.
    """
    at = SEGMENT_HEADER.size
    while at < size:
        head = read(at, BLOCK_HEADER.size)
        found = read_block_header(head, 0, number, at) if len(head) == BLOCK_HEADER.size else None
        if found is None:
            raise DamagedError(f"there is no block at {at}")
        start, length = at + BLOCK_HEADER.size, found[0]
        yield check_block(read(start, length + CRC.size), length, at)
        at = start + length + CRC.size


class Tail(Enum):
    """How a segment ends."""

    WHOLE = "whole"
    TORN = "torn"
    """With the beginning of a block, or with zeros: what a crash leaves."""
    DAMAGED = "damaged"


@dataclass(slots=True)
class Scan:
    """What a segment holds: the payloads of its blocks as (start, end), and where it is damaged.

    `end` is where valid data ends. `damaged` are ranges of invalid bytes, the tail's included.
    """

    end: int = SEGMENT_HEADER.size
    first: int = 0
    tail: Tail = Tail.WHOLE
    blocks: list[tuple[int, int]] = field(default_factory=list)
    damaged: list[tuple[int, int]] = field(default_factory=list)


def scan(data: bytes, number: int) -> Scan:
    """Find the valid blocks of segment `number`."""
    found = Scan()
    at, size = SEGMENT_HEADER.size, len(data)
    view = memoryview(data)
    while at < size:
        block = _read_block(data, view, at, number)
        if block is not None:
            start, end, found.first = block
            found.blocks.append((start, end))
            at = found.end = end + CRC.size
            continue
        again = _next_block(data, view, at + 1, number)
        if again is None:
            found.tail = Tail.TORN if _is_torn(data, at, number) else Tail.DAMAGED
            if found.tail is Tail.DAMAGED:
                found.damaged.append((at, size))
            break
        found.damaged.append((at, again))
        at = again
    return found


def _read_block(data: bytes, view: memoryview, at: int, number: int) -> tuple[int, int, int] | None:
    """Start and end of the payload at `at`, and the first segment; None if there is no valid block."""
    start = at + BLOCK_HEADER.size
    if start + CRC.size > len(data):
        return None
    header = read_block_header(data, at, number, at)
    if header is None:
        return None
    length, first = header
    end = start + length
    if end + CRC.size > len(data) or crc32(view[start:end]) != CRC.unpack_from(data, end)[0]:
        return None
    return start, end, first


def _next_block(data: bytes, view: memoryview, at: int, number: int) -> int | None:
    """The position of the next valid block at or after `at`."""
    while (at := data.find(_MARK, at)) >= 0:
        if _read_block(data, view, at, number) is not None:
            return at
        at += 1
    return None


def _is_torn(data: bytes, at: int, number: int) -> bool:
    """Whether what begins at `at` is what an interrupted write leaves, rather than damage."""
    rest = len(data) - at
    if rest < BLOCK_HEADER.size:
        return True
    header = read_block_header(data, at, number, at)
    if header is not None:
        return BLOCK_HEADER.size + header[0] + CRC.size > rest
    return not any(data[start : start + _CHUNK].strip(b"\0") for start in range(at, len(data), _CHUNK))


class BlockWriter:
    """The bytes of one block, to be written in slices."""

    __slots__ = ("_checksum", "_head", "_pieces", "_whole", "size")

    def __init__(self, pieces: list[Buffer], length: int, info: SegmentInfo, position: int) -> None:
        """`pieces` are the payload, `length` bytes; the list is used up."""
        self.size = BLOCK_HEADER.size + length + CRC.size
        self._head = block_header(length, info.first, info.number, position)
        self._checksum = 0
        self._whole = False
        self._pieces = pieces
        pieces.reverse()

    def take(self, limit: int) -> bytes:
        """The next bytes, about `limit` of them; none at the end."""
        pieces = self._pieces
        if self._whole:
            return b""
        parts: list[Buffer] = []
        size = 0
        while pieces and size < limit:
            piece = pieces.pop()
            if size + len(piece) > limit:
                view = memoryview(piece)
                pieces.append(view[limit - size :])
                piece = view[: limit - size]
            parts.append(piece)
            size += len(piece)
        payload = b"".join(parts)
        self._checksum = crc32(payload, self._checksum)
        head, self._head = self._head, b""
        if pieces:
            return head + payload
        self._whole = True
        return b"".join((head, payload, CRC.pack(self._checksum)))

"""Opens a log: reads what it holds, cuts a torn end, and keeps damaged segments aside.

The rules are in the package's docstring. Nothing is lost without a report: `problems` has a text for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from msctl.broker.storage.blocks import (
    SEGMENT_HEADER,
    VERSION,
    DamagedError,
    Header,
    OtherVersionError,
    Scan,
    SegmentInfo,
    Tail,
    read_segment_header,
    scan,
    segment_header,
)
from msctl.broker.storage.liveness import Liveness, Segment
from msctl.broker.storage.log import SEGMENT_SIZE, SegmentFiles
from msctl.broker.storage.replay import Replay
from msctl.errors import BrokerError


class LogFiles(SegmentFiles, Protocol):
    """The files of a log that only this process uses: `folder.LogFolder`, or those of a simulation."""

    @property
    def path(self) -> Path: ...

    def numbers(self) -> list[int]: ...

    def append(self, number: int, size: int) -> int: ...

    def read(self, number: int) -> bytes: ...

    def remove(self, number: int) -> None: ...

    def aside(self, number: int) -> Path: ...

    def keep_aside(self, number: int) -> None: ...

    def synchronize(self, descriptor: int) -> None:
        """Write a segment's data to the disk. Raises OSError."""
        ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Recovered:
    """What the log holds, its segments, the descriptor of the newest one, and what was wrong.

    `cut` is the number of bytes of an incomplete block at the end. With `problems`, what is live must be
    written again, so that the segments with the problems can leave the log; `damaged` are those to keep.
    """

    replay: Replay
    liveness: Liveness
    newest: int
    cut: int
    problems: list[str]
    damaged: set[int]


@dataclass(slots=True)
class _Found:
    """A segment's file."""

    number: int
    size: int
    header: SegmentInfo | Header
    scan: Scan


def recover(folder: LogFiles, segment_size: int = SEGMENT_SIZE) -> Recovered:
    """Read the log, or begin an empty one. Raises BrokerError for another version, and OSError."""
    found = _find(folder)
    cut = 0
    if found and found[-1].header is Header.INCOMPLETE:
        cut = found[-1].size
        folder.remove(found.pop().number)
    replay, liveness = Replay(), Liveness()
    problems = _missing(found)
    damaged: set[int] = set()
    segments: dict[int, Segment] = {}
    for at, one in enumerate(found):
        base = one.header.base if isinstance(one.header, SegmentInfo) else replay.last + 1
        segment = segments[one.number] = Segment(one.number, base, one.size)
        liveness.add(segment)
        wrong = _replay(folder, one, base, replay)
        if one.scan.tail is Tail.TORN:
            if at == len(found) - 1:
                cut += one.size - one.scan.end
            else:
                wrong.append(f"it is cut off at byte {one.scan.end}")
        if wrong:
            damaged.add(one.number)
            problems.append(
                f"segment {one.number} is damaged: {', '.join(wrong)}; the rest of it is recovered, and the "
                f"file is kept as {folder.aside(one.number)}"
            )
    replay.finish()
    if replay.sealed:
        problems.append(_lost(found[-1].number + 1, found[-1].number + 1))
    if problems:
        replay.closed = False
    replay.last = max([replay.last, *(segment.base - 1 for segment in liveness.segments)])
    if not problems:
        moved = {number: segments[home] for number, home in replay.moved.items()}
        liveness.recovered(replay.live(), moved, replay.last + 1)
    newest = _open_newest(folder, liveness, found, replay, 0 if problems else segment_size)
    return Recovered(replay, liveness, newest, cut, problems, damaged)


def _find(folder: LogFiles) -> list[_Found]:
    """The segments that belong to the log; older files are removed. Raises BrokerError and OSError."""
    found: list[_Found] = []
    first = 0
    for number in reversed(folder.numbers()):
        if number < first:
            folder.remove(number)
            continue
        data = folder.read(number)
        try:
            header = read_segment_header(data, number)
        except OtherVersionError as error:
            raise BrokerError(
                f"the broker's log in {folder.path} has format version {error.args[0]}, and this msctl reads "
                f"version {VERSION}",
                hint="use the msctl that wrote it, or delete what it holds with: msctl broker reset",
            ) from error
        one = _Found(number, len(data), header, scan(data, number))
        first = max(first, _first(one))
        found.append(one)
    found.reverse()
    return found


def _first(one: _Found) -> int:
    """The oldest segment of the log, as far as this one knows."""
    return max(one.scan.first, one.header.first if isinstance(one.header, SegmentInfo) else 0)


def _missing(found: list[_Found]) -> list[str]:
    """A text for each gap in the segments."""
    texts: list[str] = []
    expected = max((_first(one) for one in found), default=0) or (found[0].number if found else 0)
    for one in found:
        if one.number > expected:
            texts.append(_lost(expected, one.number - 1))
        expected = one.number + 1
    return texts


def _lost(start: int, end: int) -> str:
    return (
        f"segment {start} is missing: what it held is lost"
        if start == end
        else f"segments {start} to {end} are missing: what they held is lost"
    )


def _replay(folder: LogFiles, one: _Found, base: int, replay: Replay) -> list[str]:
    """Apply a segment's blocks; return what is wrong with it."""
    wrong = ["its header is invalid"] if isinstance(one.header, Header) else []
    wrong += [f"bytes {start} to {end - 1} are invalid" for start, end in one.scan.damaged]
    replay.sealed = False
    data = folder.read(one.number) if one.scan.blocks else b""
    for start, end in one.scan.blocks:
        try:
            replay.apply(data[start:end], one.number, base)
        except DamagedError as error:
            wrong.append(f"the block at byte {start} cannot be read ({error})")
    return wrong


def _open_newest(
    folder: LogFiles, liveness: Liveness, found: list[_Found], replay: Replay, limit: int
) -> int:
    """Open the newest segment for appending if it is smaller than `limit`, else a new one.

    Returns its descriptor. Raises OSError.
    """
    number = 1
    if found:
        newest = found[-1]
        number = newest.number + 1
        if limit:
            descriptor = folder.append(newest.number, newest.scan.end)
            liveness.segments[-1].size = newest.scan.end
            if newest.scan.end < limit:
                return descriptor
            folder.release(descriptor)
    first = liveness.segments[0].number if liveness.segments else number
    base = replay.last + 1
    descriptor = folder.create(number, segment_header(SegmentInfo(number, first, base)))
    liveness.add(Segment(number, base, SEGMENT_HEADER.size))
    return descriptor

"""Which entries are live, and in which segment each has its latest copy. Pure.

A segment's own entries have consecutive numbers from its `base` on, so one byte for each is enough. An
entry that was moved out of the oldest segment is in `_moved`, by its number: moved entries are few, since
a segment is emptied only when most of it is dead.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Segment:
    """One file of the log. `flags` has a 1 for each live entry whose only copy is the segment's own."""

    number: int
    base: int
    size: int = 0
    flags: bytearray = field(default_factory=bytearray)
    live: int = 0
    """Live entries whose latest copy is here, moved ones included."""


class Liveness:
    """The segments, the oldest first."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self._bases: list[int] = []
        self._moved: dict[int, Segment] = {}

    def add(self, segment: Segment) -> None:
        self.segments.append(segment)
        self._bases.append(segment.base)

    def drop_oldest(self) -> Segment:
        self._bases.pop(0)
        return self.segments.pop(0)

    def put(self, segment: Segment, end: int) -> None:
        """Count the numbers below `end` that no segment has yet as live entries of `segment`."""
        count = end - segment.base - len(segment.flags)
        if count > 0:
            segment.flags.extend(b"\1" * count)
            segment.live += count

    def recovered(self, numbers: list[int], moved: dict[int, Segment], end: int) -> None:
        """Set the live entries: `numbers`, ascending; `moved` has the segment of each moved one.

        `end` is above all numbers.
        """
        ends = [*self._bases, end][1:]
        at = 0
        for segment, last in zip(self.segments, ends, strict=True):
            flags = bytearray(max(0, last - segment.base))
            base = segment.base
            while at < len(numbers) and numbers[at] < last:
                number = numbers[at]
                at += 1
                home = moved.get(number)
                if home is not None:
                    self._moved[number] = home
                    home.live += 1
                elif number >= base:
                    flags[number - base] = 1
                    segment.live += 1
            segment.flags = flags

    def adopt(self, number: int) -> None:
        """Record that the only valid copy of an entry is in the newest segment."""
        home = self._moved[number] = self.segments[-1]
        home.live += 1

    def remove(self, numbers: Iterable[int]) -> None:
        """Entries that are no longer needed; numbers that are not live are ignored."""
        bases, segments, moved = self._bases, self.segments, self._moved
        base, end = 0, -1
        segment: Segment | None = None
        for number in numbers:
            if segment is None or not base <= number < end:
                at = bisect_right(bases, number) - 1
                if at < 0:
                    self._remove_moved(moved.pop(number, None))
                    continue
                segment = segments[at]
                base = segment.base
                end = base + len(segment.flags)
            if number < end and segment.flags[number - base]:
                segment.flags[number - base] = 0
                segment.live -= 1
            else:
                self._remove_moved(moved.pop(number, None))

    @staticmethod
    def _remove_moved(home: Segment | None) -> None:
        if home is not None:
            home.live -= 1

    def lives_in(self, number: int, segment: Segment) -> bool:
        """Whether the entry is live and its latest copy is in `segment`."""
        at = number - segment.base
        if 0 <= at < len(segment.flags) and segment.flags[at]:
            return True
        return self._moved.get(number) is segment

    def move(self, number: int, source: Segment, target: Segment) -> None:
        """Record that the latest copy of a live entry is now in `target`."""
        at = number - source.base
        if 0 <= at < len(source.flags):
            source.flags[at] = 0
        source.live -= 1
        target.live += 1
        self._moved[number] = target

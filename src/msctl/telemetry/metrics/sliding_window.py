"""Counts, errors and durations over the last minute, per second. Pure: the caller passes the time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from math import log2

SECONDS = 60
RATE_SECONDS = 10
_PER_DOUBLING = 8
"""Buckets per doubling of a duration: quantiles are accurate to 5 %."""
_SHORTEST = 1e-6


class SlidingWindow:
    """A ring of sixty one-second slots, so that its size does not depend on the number of events.

    Times are monotonic seconds.
    """

    __slots__ = ("_began", "_buckets", "_counts", "_errors", "_second")

    def __init__(self, now: float) -> None:
        self._began = int(now)
        self._second = int(now)
        self._counts = [0] * SECONDS
        self._errors = [0] * SECONDS
        self._buckets: list[dict[int, int]] = [{} for _ in range(SECONDS)]

    def record(self, now: float, seconds: float, *, error: bool = False) -> None:
        """Record an event that ended at `now` and took `seconds`."""
        buckets = self._count(int(now), 1, error=error)
        bucket = _bucket(seconds)
        buckets[bucket] = buckets.get(bucket, 0) + 1

    def record_all(self, ended: Sequence[float], seconds: Sequence[float], *, error: bool = False) -> None:
        """As `record`, for each pair of `ended`, which is in order, and `seconds`."""
        second = int(ended[0])
        if int(ended[-1]) != second:
            for now, duration in zip(ended, seconds, strict=True):
                self.record(now, duration, error=error)
            return
        buckets = self._count(second, len(seconds), error=error)
        ordered = sorted(seconds)  # so that a bucket is counted at once, and not each duration
        start = 0
        while start < len(ordered):
            bucket = _bucket(ordered[start])
            end = bisect_left(ordered, _upper_edge(bucket), start + 1)
            buckets[bucket] = buckets.get(bucket, 0) + end - start
            start = end

    def _count(self, second: int, events: int, *, error: bool) -> dict[int, int]:
        """Count events of one second; return its buckets."""
        if second != self._second:
            self._move(second)
        slot = second % SECONDS
        self._counts[slot] += events
        if error:
            self._errors[slot] += events
        return self._buckets[slot]

    def rate(self, now: float) -> float:
        """Events per second over the last ten whole seconds."""
        return self._per_second(now, self._counts)

    def error_rate(self, now: float) -> float:
        """Errors per second over the last ten whole seconds."""
        return self._per_second(now, self._errors)

    def recent(self, now: float, seconds: int = 30) -> tuple[int, ...]:
        """The counts of the last `seconds` whole seconds, oldest first."""
        self._move(int(now))
        return tuple(self._counts[second % SECONDS] for second in range(int(now) - seconds, int(now)))

    def durations(self, now: float) -> dict[int, int]:
        """Events per duration bucket over the last minute."""
        self._move(int(now))
        merged: dict[int, int] = {}
        for buckets in self._buckets:
            for bucket, count in buckets.items():
                merged[bucket] = merged.get(bucket, 0) + count
        return merged

    def _per_second(self, now: float, counts: list[int]) -> float:
        second = int(now)
        self._move(second)
        whole = min(RATE_SECONDS, second - self._began)
        if whole < 1:
            return float(counts[second % SECONDS])
        return sum(counts[past % SECONDS] for past in range(second - whole, second)) / whole

    def _move(self, second: int) -> None:
        """Advance to `second` and clear the slots of the seconds passed."""
        for new in range(max(self._second + 1, second - SECONDS + 1), second + 1):
            slot = new % SECONDS
            self._counts[slot] = self._errors[slot] = 0
            self._buckets[slot] = {}
        self._second = max(self._second, second)


def _bucket(seconds: float) -> int:
    return int(log2(seconds if seconds > _SHORTEST else _SHORTEST) * _PER_DOUBLING // 1)


def _upper_edge(bucket: int) -> float:
    return float(2 ** ((bucket + 1) / _PER_DOUBLING))


def quantile(windows: Iterable[SlidingWindow], now: float, q: float) -> float | None:
    """The `q` quantile in seconds of the last minute's durations; None without events."""
    merged: dict[int, int] = {}
    for window in windows:
        for bucket, count in window.durations(now).items():
            merged[bucket] = merged.get(bucket, 0) + count
    target = q * sum(merged.values())
    reached = 0
    for bucket in sorted(merged):
        reached += merged[bucket]
        if reached >= target:
            return float(2 ** ((bucket + 0.5) / _PER_DOUBLING))
    return None

"""Long work in slices: SLICE_S of it in a turn of the loop, however many requests ask for it.

One lock is held while a slice is made and until the next turn of the loop, so that ten lists at once take as
much of each turn as one. It is not held while a client reads what was made.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from msctl.clock import Clock

SLICE_S = 0.002
_STEP = 16
"""Items between two looks at the clock."""

T = TypeVar("T")
R = TypeVar("R")


class Slices:
    """Shares the turns of the loop among those with long work."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = asyncio.Lock()

    async def batches(self, items: Iterable[T], make: Callable[[T], R]) -> AsyncIterator[list[R]]:
        """What `make` returns for each item, a slice at a time."""
        each = iter(items)
        while True:
            async with self._lock:
                batch, more = self._batch(each, make)
                if more:
                    await asyncio.sleep(0)
            if batch:
                yield batch
            if not more:
                return

    def _batch(self, each: Iterator[T], make: Callable[[T], R]) -> tuple[list[R], bool]:
        """One slice, and whether there may be more."""
        end = self._clock.monotonic() + SLICE_S
        batch: list[R] = []
        while True:
            step = [make(item) for item in islice(each, _STEP)]
            batch += step
            if len(step) < _STEP:
                return batch, False
            if self._clock.monotonic() >= end:
                return batch, True

    async def collect(self, items: Iterable[T], make: Callable[[T], R]) -> list[R]:
        """What `make` returns for each item, all of it."""
        found: list[R] = []
        async for batch in self.batches(items, make):
            found += batch
        return found

    async def ordered(
        self, items: Iterable[T], key: Callable[[T], Any], *, reverse: bool = False
    ) -> Iterator[T]:
        """The items by `key`. They are sorted slice by slice, and merged as they are read."""
        parts: list[list[T]] = []
        async for batch in self.batches(items, _same):
            batch.sort(key=key, reverse=reverse)
            parts.append(batch)
        return iter(heapq.merge(*parts, key=key, reverse=reverse))


def _same(item: T) -> T:
    return item

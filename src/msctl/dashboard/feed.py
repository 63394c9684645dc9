"""What is pushed to pages: the stack's state at most ten times a second, and log lines in batches.

One ticker serves all pages, and runs only while there is one. A page that does not keep up misses
states in between and is told how many lines it missed; it never holds up the stack.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import msgspec

from msctl.model.snapshots import LogLine, LogQuery, SystemView
from msctl.telemetry.logs.broadcast import Broadcast

TICK_S = 1.0
SOONEST_S = 0.1
"""Between two states that are pushed, however fast they change."""
LARGE = 200_000
"""Bytes of an encoded state from which on it is pushed half as often."""
FIRST_LINES = 20_000
MAX_WAITING = 5_000
"""Lines that wait for one page; the oldest are dropped beyond that."""
BATCH = 1_000

_encode = msgspec.json.Encoder().encode


class Feed:
    """The state of a stack, encoded, for as many pages as look."""

    def __init__(self, view: SystemView) -> None:
        self._view = view
        self._state = b""
        self._states: Broadcast[bytes] = Broadcast(backlog=1)
        self._hurry = asyncio.Event()
        self._pages = 0
        self._tasks: list[asyncio.Task[None]] = []

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Keep the state coming while the block runs."""
        self._pages += 1
        if self._pages == 1:
            self._tasks = [
                asyncio.create_task(work, name="dashboard-feed") for work in (self._tick(), self._listen())
            ]
        try:
            yield
        finally:
            self._pages -= 1
            if not self._pages:
                for task in self._tasks:
                    task.cancel()
                self._state = b""

    async def states(self) -> AsyncIterator[bytes]:
        """The state as it is, then each new one, as JSON documents; those in between are skipped."""
        with self._states.subscribe() as feed:
            if self._state:
                yield self._state
            while True:
                yield (await feed.take())[0][-1]

    async def _tick(self) -> None:
        while True:
            self._hurry.clear()
            self._state = _encode(await self._view.snapshot())
            self._states.publish(self._state)
            await asyncio.sleep(SOONEST_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S * (2 if len(self._state) > LARGE else 1) - SOONEST_S):
                    await self._hurry.wait()

    async def _listen(self) -> None:
        """A service that changed its state is shown at once."""
        async for _ in self._view.events():
            self._hurry.set()


class Lines:
    """The log lines for one page, in batches."""

    def __init__(self, view: SystemView, after: int) -> None:
        """`after` is the number of the last line that the page has; 0 for none."""
        self._view = view
        self._after = after
        self._waiting: list[LogLine] = []
        self._missed = 0
        self._wake = asyncio.Event()

    async def collect(self) -> None:
        """Take lines in until cancelled."""
        async for line in self._view.logs(LogQuery(tail=FIRST_LINES, follow=True)):
            if line.seq <= self._after:
                continue
            self._waiting.append(line)
            self._wake.set()
            if len(self._waiting) > MAX_WAITING + FIRST_LINES:
                self._missed += BATCH
                del self._waiting[:BATCH]

    async def batches(self) -> AsyncIterator[bytes]:
        """Up to a thousand lines at a time, as one JSON document."""
        while True:
            await self._wake.wait()
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            if not self._waiting:
                self._wake.clear()
            missed, self._missed = self._missed, 0
            yield _encode({"missed": missed, "lines": [_compact(line) for line in batch]})


def _compact(line: LogLine) -> tuple[object, ...]:
    """A line without the names of its parts: what is sent by the thousand should be small."""
    return (
        line.seq,
        round(line.time, 3),
        line.service,
        line.level,
        line.text,
        line.trace,
        line.instance,
        line.fields or None,
    )

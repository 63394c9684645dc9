"""What is pushed to pages: the stack's state, log lines and messages.

One ticker takes snapshots for all pages, at most ten a second, and runs only while a page is open. A slow
page skips states and loses its oldest lines and messages, which are counted; it never slows the stack down.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import msgspec

from msctl.model.events import LogLine, LogQuery
from msctl.model.queue_messages import PeekedMessage
from msctl.model.views import SystemView
from msctl.telemetry.logs.broadcast import Broadcast

TICK_S = 1.0
MIN_INTERVAL_S = 0.1
"""Between two states, however fast they change."""
LARGE = 200_000
"""Bytes of an encoded state above which it is pushed half as often."""
FIRST_LINES = 20_000
MAX_WAITING = 5_000
"""Lines waiting for one page; above that, the oldest are dropped."""
BATCH = 1_000
PEEK_BATCH = 200

_encode = msgspec.json.Encoder().encode


class StateFeed:
    """The encoded state of a stack, for all pages."""

    def __init__(self, view: SystemView) -> None:
        self._view = view
        self._state = b""
        self._states: Broadcast[bytes] = Broadcast(backlog=1)
        self._changed = asyncio.Event()
        self._pages = 0
        self._tasks: list[asyncio.Task[None]] = []

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Take snapshots while the block runs."""
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
        """Yield the current state, then new ones, as JSON documents; a slow reader skips some."""
        with self._states.subscribe() as feed:
            if self._state:
                yield self._state
            while True:
                yield (await feed.take())[0][-1]

    async def _tick(self) -> None:
        while True:
            self._changed.clear()
            self._state = _encode(await self._view.snapshot())
            self._states.publish(self._state)
            await asyncio.sleep(MIN_INTERVAL_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S * (2 if len(self._state) > LARGE else 1) - MIN_INTERVAL_S):
                    await self._changed.wait()

    async def _listen(self) -> None:
        """Push the state at once when a service changes."""
        async for _ in self._view.events():
            self._changed.set()


class LogFeed:
    """The log lines for one page, in batches."""

    def __init__(self, view: SystemView, after: int) -> None:
        """`after` is the number of the last line that the page has; 0 for none."""
        self._view = view
        self._after = after
        self._waiting: list[LogLine] = []
        self._missed = 0
        self._wake = asyncio.Event()

    async def collect(self) -> None:
        """Collect lines until cancelled."""
        async for line in self._view.logs(LogQuery(tail=FIRST_LINES, follow=True)):
            if line.seq <= self._after:
                continue
            self._waiting.append(line)
            self._wake.set()
            if len(self._waiting) > MAX_WAITING + FIRST_LINES:
                self._missed += BATCH
                del self._waiting[:BATCH]

    async def batches(self) -> AsyncIterator[bytes]:
        """Yield up to `BATCH` lines at a time as one JSON document."""
        while True:
            await self._wake.wait()
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            if not self._waiting:
                self._wake.clear()
            missed, self._missed = self._missed, 0
            yield _encode({"missed": missed, "lines": [_compact(line) for line in batch]})


async def message_batches(messages: AsyncIterator[PeekedMessage]) -> AsyncIterator[bytes]:
    """Yield messages in batches as JSON documents: a busy queue must not cost a write per message."""
    waiting: list[PeekedMessage] = []
    missed = 0
    wake = asyncio.Event()

    async def collect() -> None:
        nonlocal missed
        async for message in messages:
            waiting.append(message)
            if len(waiting) > PEEK_BATCH:
                waiting.pop(0)
                missed += 1
            wake.set()

    task = asyncio.ensure_future(collect())
    task.add_done_callback(lambda _: wake.set())
    try:
        yield b'{"missed":0,"messages":[]}'
        while True:
            await wake.wait()
            wake.clear()
            batch, skipped = waiting[:], missed
            waiting.clear()
            missed = 0
            if batch:
                yield _encode({"missed": skipped, "messages": batch})
            if task.done():
                task.result()
                return
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _compact(line: LogLine) -> tuple[object, ...]:
    """A line as a tuple without keys: thousands are sent at once."""
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

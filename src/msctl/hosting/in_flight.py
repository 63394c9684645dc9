"""The tasks of a hosted service's requests, and how a stopping service waits for them."""

from __future__ import annotations

import asyncio
from typing import Any

from msctl.aio import first_of
from msctl.clock import AsyncClock

_CANCELLED_S = 1.0
"""How long a cancelled request may take to end; one that ignores it is abandoned."""


class InFlight:
    """The requests that have not ended."""

    def __init__(self, clock: AsyncClock) -> None:
        self._clock = clock
        self._tasks: set[asyncio.Future[Any]] = set()
        self._idle: asyncio.Event | None = None
        """Set when the last one ends; exists only while draining."""
        self.expired = False
        """Whether the time of those that are left is over."""

    def add(self, task: asyncio.Future[Any]) -> None:
        """Count `task` until `discard` is called with it."""
        self._tasks.add(task)

    def add_until_done(self, task: asyncio.Future[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self.discard)

    def discard(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if self._idle is not None and not self._tasks:
            self._idle.set()

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until all have ended, then cancel the rest."""
        self._idle = asyncio.Event()
        await self._wait(timeout)
        if self._tasks:
            self.expired = True
            for task in self._tasks:
                task.cancel()
            await self._wait(_CANCELLED_S)

    async def _wait(self, timeout: float) -> None:
        if self._tasks and self._idle is not None:
            await first_of(self._idle.wait(), self._clock.sleep(timeout))

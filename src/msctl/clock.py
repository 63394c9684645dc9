"""Time as a dependency, so that decisions can be tested without waiting.

Knows nothing of asyncio: the loop's own sleep is handed to `SystemClock` by whoever builds it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Protocol


class Clock(Protocol):
    """What pure code needs of time."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...

    def time(self) -> float:
        """Seconds since the epoch, for timestamps that people and other programs read."""
        ...


class AsyncClock(Clock, Protocol):
    """A clock that can also be waited on."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`, or raise what cancels the caller."""
        ...


class SystemClock:
    """The machine's clock; `sleeper` is the event loop's sleep (`asyncio.sleep`)."""

    # The functions themselves: every request reads the clock several times.
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    def __init__(self, sleeper: Callable[[float], Awaitable[object]] | None = None) -> None:
        self._sleeper = sleeper

    async def sleep(self, seconds: float) -> None:
        if self._sleeper is None:
            raise RuntimeError("this clock was built without an event loop's sleep")
        await self._sleeper(seconds)

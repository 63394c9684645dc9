"""Time as a dependency, so that tests need not wait.

Independent of asyncio: `SystemClock` gets the loop's sleep from its creator.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Protocol


class Clock(Protocol):
    """The time that pure code reads."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences are meaningful."""
        ...

    def time(self) -> float:
        """Seconds since the epoch, for timestamps."""
        ...


class AsyncClock(Clock, Protocol):
    """A clock that can also sleep."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
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
            raise RuntimeError("this clock has no event loop's sleep")
        await self._sleeper(seconds)

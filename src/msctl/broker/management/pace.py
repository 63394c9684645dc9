"""Paces requests: a burst at once, then so many a second; those above wait, and too many are refused."""

from __future__ import annotations

from msctl.clock import AsyncClock


class Pace:
    """A token bucket whose callers wait for their token in order of arrival."""

    def __init__(self, clock: AsyncClock, *, rate: float, burst: int, waiting: int) -> None:
        """`rate` is per second; at most `waiting` callers wait."""
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._waiting = waiting
        self._tokens = float(burst)
        self._filled = clock.monotonic()

    async def enter(self) -> bool:
        """Wait for a token; False at once if too many wait."""
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens <= -self._waiting:
            return False
        self._tokens -= 1
        if self._tokens < 0:
            await self._clock.sleep(-self._tokens / self._rate)
        return True

"""The clock and the log of a simulated world."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from msctl.model.stack_trace import raised_at
from msctl.simulation.virtual_time import BEGIN_S, VirtualTimeLoop
from msctl.telemetry.logs.hub import LogHub


class LoopClock:
    """A clock that shows a loop's time."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self.monotonic = loop.time
        self._loop = loop

    def time(self) -> float:
        return BEGIN_S + self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ErrorLog(LogHub):
    """Shows the errors that services log: what their handlers raise."""

    def __init__(self, clock: LoopClock, show: Callable[[str], None]) -> None:
        super().__init__(clock, capacity=200)
        self._show = show

    def append(self, service: str, text: str, level: str = "info", **options: Any) -> None:
        if level == "error":
            place = raised_at(text)
            last = text.rstrip().rpartition("\n")[2]
            self._show(f"{service}: {last}, at {place}" if place else f"{service}: {last}")
        super().append(service, text, level, **options)

"""What processes use: processor time and memory, summed over all that one instance runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil

_SHORTEST_S = 0.2


@dataclass(frozen=True, slots=True)
class Use:
    """Percent of one processor since the last look (since its start, at the first), and resident bytes."""

    cpu_percent: float
    memory_bytes: int


@dataclass(slots=True)
class Meter:
    """Turns the processor time of one instance into a percentage, from one look to the next."""

    at: float | None = None
    cpu_s: float = 0.0
    percent: float = 0.0

    def take(self, now: float, uptime: float, cpu_s: float) -> float:
        """`cpu_s` is the time used so far; it falls when one of several processes ends."""
        if self.at is None:
            self.percent = 100.0 * cpu_s / max(uptime, _SHORTEST_S)
        elif now - self.at < _SHORTEST_S:
            return self.percent  # too short to measure: the time comes in hundredths of a second
        else:
            self.percent = 100.0 * max(0.0, cpu_s - self.cpu_s) / (now - self.at)
        self.at, self.cpu_s = now, cpu_s
        return self.percent


def measure(pids: Iterable[int]) -> tuple[float, int]:
    """Processor seconds and resident bytes of these together; those that have gone count nothing."""
    seconds, memory = 0.0, 0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                memory += process.memory_info().rss
            seconds += times.user + times.system
        except psutil.Error:
            continue
    return seconds, memory

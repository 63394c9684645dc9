"""CPU and memory usage, summed over the processes of an instance."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

_SHORTEST_S = 0.2


@dataclass(frozen=True, slots=True)
class Usage:
    """Percent of one CPU since the last measurement (at first: since the start), and resident bytes."""

    cpu_percent: float
    memory_bytes: int


@dataclass(slots=True)
class Meter:
    """Converts the CPU time of one instance to a percentage between two measurements."""

    at: float | None = None
    cpu_s: float = 0.0
    percent: float = 0.0

    def take(self, now: float, uptime: float, cpu_s: float) -> float:
        """`cpu_s` is the CPU time used so far; it falls when one of several processes exits."""
        if self.at is None:
            self.percent = 100.0 * cpu_s / max(uptime, _SHORTEST_S)
        elif now - self.at < _SHORTEST_S:
            return self.percent  # CPU time has a resolution of 0.01 s
        else:
            self.percent = 100.0 * max(0.0, cpu_s - self.cpu_s) / (now - self.at)
        self.at, self.cpu_s = now, cpu_s
        return self.percent


def measure(pids: Iterable[int]) -> tuple[float, int]:
    """CPU seconds and resident bytes of these processes together; exited ones count as zero."""
    seconds, memory = 0.0, 0
    for pid in pids:
        used = _read_stat(pid) if sys.platform == "linux" else _ask_psutil(pid)
        if used is not None:
            seconds += used[0]
            memory += used[1]
    return seconds, memory


_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _read_stat(pid: int) -> tuple[float, int] | None:
    """One read of /proc/PID/stat (proc(5)): psutil takes four, which hundreds of processes make felt."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        stat = os.read(descriptor, 4096)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    # The name, in parentheses, may hold spaces and parentheses; the fields after it are numbered from 3.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S, int(fields[21]) * _PAGE


def _ask_psutil(pid: int) -> tuple[float, int] | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return times.user + times.system, process.memory_info().rss
    except psutil.Error:
        return None

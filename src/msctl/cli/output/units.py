"""Durations, sizes and rates in few characters. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def show_duration(seconds: float) -> str:
    """Format with two units at most: `42s`, `3m07s`, `2h05m`, `4d01h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def show_latency(seconds: float) -> str:
    """Format in the unit with the fewest digits: `840 µs`, `3.2 ms`, `1.25 s`."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1000:.{1 if seconds < 0.1 else 0}f} ms"
    return f"{seconds:.2f} s"


def show_size(size: int) -> str:
    """Format bytes in the largest binary unit of which there is at least one."""
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def sparkline(values: Sequence[float]) -> str:
    """Draw one bar per value, scaled to the largest; flat where all are 0."""
    largest = max(values, default=0)
    if largest <= 0:
        return _BARS[0] * len(values) or "-"
    return "".join(_BARS[round(value / largest * (len(_BARS) - 1))] for value in values)

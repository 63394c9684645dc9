"""The types of durations and sizes in msctl.toml; in the model they are seconds and bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from msctl.config.schema.value_type import MismatchError, Type
from msctl.config.value_source import KeyRef

_DURATION = r"(?:(?P<value>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h)?)"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_SIZE = r"(?P<value>\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-z]*)"
_BYTES = {
    "": 1,
    "b": 1,
    **{
        unit: 1024**power
        for power, units in enumerate(("k kib", "m mib", "g gib"), 1)
        for unit in units.split()
    },
    **{unit: 1000**power for power, unit in enumerate(("kb", "mb", "gb"), 1)},
}


def duration(raw: object, _ref: KeyRef) -> float:
    return seconds_of(raw)


def positive_duration(raw: object, _ref: KeyRef) -> float:
    seconds = seconds_of(raw)
    if not seconds:
        raise MismatchError
    return seconds


def seconds_of(raw: object) -> float:
    """Parse seconds: a number, or `"500ms"`, `"10s"`, `"2m"`, `"1h"`, `"1m30s"`."""
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        if not math.isfinite(raw) or raw < 0:
            raise MismatchError
        return float(raw)
    if not isinstance(raw, str):
        raise MismatchError
    seconds, pos, value = 0.0, 0, raw.strip()
    while pos < len(value) or not value:
        match = re.compile(_DURATION).match(value, pos)
        if match is None or (match["unit"] is None and match.group() != value):
            raise MismatchError
        seconds += float(match["value"]) * _SECONDS[match["unit"]]
        pos = match.end()
    if not math.isfinite(seconds):
        raise MismatchError
    return seconds


def show_duration(seconds: float) -> str:
    """The shortest exact spelling: 10.0 → `10s`, 0.5 → `500ms`, 120.0 → `2m`."""
    if seconds >= 60 and seconds % 60 == 0:
        return f"{int(seconds) // 60}m"
    if seconds == int(seconds):
        return f"{int(seconds)}s"
    millis = round(seconds * 1000)
    return f"{millis}ms" if millis / 1000 == seconds else f"{seconds:.12f}".rstrip("0") + "s"


def size(raw: object, _ref: KeyRef) -> int:
    """Parse bytes: a number, or `"64KiB"`, `"16MiB"`, `"1GB"`; `K`, `M`, `G` alone are powers of 1024."""
    if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0:
        return raw
    if not isinstance(raw, str):
        raise MismatchError
    match = re.fullmatch(_SIZE, raw.strip())
    if match is None or match["unit"].lower() not in _BYTES:
        raise MismatchError
    value = float(match["value"]) * _BYTES[match["unit"].lower()]
    if not math.isfinite(value) or value != int(value):
        raise MismatchError
    return int(value)


def size_between(low: int, high: int) -> Callable[[object, KeyRef], int]:
    def parse(raw: object, ref: KeyRef) -> int:
        value = size(raw, ref)
        if not low <= value <= high:
            raise MismatchError
        return value

    return parse


def show_size(value: int) -> object:
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if value and value % factor == 0:
            return f"{value // factor}{unit}"
    return value


def whole_seconds(raw: object, ref: KeyRef) -> int:
    seconds = duration(raw, ref)
    if seconds != int(seconds):
        raise MismatchError
    return int(seconds)


DURATION = Type('a duration such as "10s", "500ms" or a number of seconds', duration, show_duration)
POSITIVE_DURATION = Type(
    'a duration above 0 such as "10s", "500ms" or a number of seconds', positive_duration, show_duration
)
SIZE = Type('a size such as "16MiB" or a number of bytes', size, show_size)
MESSAGE_SIZE = Type('a size from 1 byte to "512MiB"', size_between(1, 512 * 1024 * 1024), show_size)
MEMORY_SIZE = Type('a size from "1MiB"', size_between(1024 * 1024, 1 << 50), show_size)
HEADER_BYTES = Type('a size from "1KiB" to "1MiB"', size_between(1024, 1024**2), show_size)

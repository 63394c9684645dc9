"""Durations on the command line, written as in msctl.toml."""

from __future__ import annotations

from msctl.errors import UsageError


def parse_duration(text: str, option: str) -> float:
    """Seconds of `10s`, `500ms`, `2m`, `1h` or a bare number. Raises UsageError naming `option`."""
    from msctl.config.values import parse_seconds

    seconds = parse_seconds(text)
    if seconds is None:
        raise UsageError(
            f"{option}: {text!r} is not a duration", hint="write it like 10s, 500ms or 2m, or in seconds"
        )
    return seconds

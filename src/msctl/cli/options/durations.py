"""Durations on the command line, written as in msctl.toml."""

from __future__ import annotations

from msctl.errors import UsageError


def parse_duration(text: str, option: str) -> float:
    """Return the seconds in `10s`, `500ms`, `2m`, `1h` or a bare number. Raises UsageError."""
    from msctl.config.schema.value_type import MismatchError
    from msctl.config.schema.values import seconds_of

    try:
        return seconds_of(float(text) if text.replace(".", "", 1).isdecimal() else text)
    except MismatchError as error:
        raise UsageError(
            f"{option}: {text!r} is not a duration", hint="use a unit, as in 500ms, 10s or 2m, or seconds"
        ) from error


def parse_timeout(text: str, option: str) -> float:
    """Return a duration in seconds that is greater than 0. Raises UsageError."""
    seconds = parse_duration(text, option)
    if seconds <= 0:
        raise UsageError(f"{option} must be greater than 0, not {text!r}")
    return seconds

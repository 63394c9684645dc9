"""Durations on the command line, written as in msctl.toml."""

from __future__ import annotations

from msctl.errors import UsageError


def parse_duration(text: str, option: str) -> float:
    """Seconds of `10s`, `500ms`, `2m`, `1h` or a bare number. Raises UsageError naming `option`."""
    from msctl.config.schema.values import MismatchError, seconds_of

    try:
        return seconds_of(float(text) if text.replace(".", "", 1).isdecimal() else text)
    except MismatchError as error:
        raise UsageError(
            f"{option}: {text!r} is not a duration", hint="write it like 10s, 500ms or 2m, or in seconds"
        ) from error

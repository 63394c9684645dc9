"""Durations and times on the command line, written as in msctl.toml."""

from __future__ import annotations

from datetime import datetime, time

from msctl.errors import UsageError


def parse_duration(text: str, option: str) -> float:
    """Return the seconds in `10s`, `500ms`, `2m`, `1h` or a bare number. Raises UsageError."""
    from msctl.config.schema.quantities import seconds_of
    from msctl.config.schema.value_type import MismatchError

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


def parse_moment(text: str, option: str, now: datetime | None = None) -> float:
    """Return epoch seconds for a duration before `now`, a time of today, or a date and time (ISO 8601).

    A time without a zone is local. Raises UsageError.
    """
    now = datetime.now().astimezone() if now is None else now
    try:
        return now.timestamp() - parse_duration(text, option)
    except UsageError:
        pass
    try:
        if "-" not in text:
            moment = datetime.combine(now.date(), time.fromisoformat(text))
        else:
            moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option}: {text!r} is neither a duration nor a time",
            hint="use 10s, 5m or 2h, or a time such as 14:30 or 2026-11-25T14:30:00Z",
        ) from None
    return (moment if moment.tzinfo else moment.astimezone(now.tzinfo)).timestamp()

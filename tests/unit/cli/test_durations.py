"""Durations and times on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from msctl.cli.options.durations import parse_moment
from msctl.errors import UsageError

NOW = datetime(2026, 11, 25, 15, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("5m", datetime(2026, 11, 25, 14, 55, tzinfo=UTC)),
        ("14:30", datetime(2026, 11, 25, 14, 30, tzinfo=UTC)),
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-25T14:30:00+02:00", datetime(2026, 11, 25, 12, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_duration_ago_or_a_time(text: str, moment: datetime) -> None:
    assert parse_moment(text, "--since", NOW) == moment.timestamp()


@pytest.mark.parametrize("text", ["yesterday", "25:00", "2026-13-01", ""])
def test_what_is_neither_names_the_option(text: str) -> None:
    with pytest.raises(UsageError, match="--since"):
        parse_moment(text, "--since", NOW)

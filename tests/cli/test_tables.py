"""Tables keep their columns, and what they show is short and never moves the cursor."""

from __future__ import annotations

import pytest

from msctl.cli.tables import show_duration, show_size, sparkline, table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.9, "59s"), (187, "3m07s"), (7500, "2h05m"), (4 * 86400 + 3600, "4d01h")],
)
def test_durations_have_two_units_at_the_most(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")],
)
def test_sizes_are_in_the_largest_unit_that_leaves_one(size: int, text: str) -> None:
    assert show_size(size) == text


@pytest.mark.parametrize(
    ("values", "text"), [((), "-"), ((0, 0), "▁▁"), ((0, 1, 2), "▁▅█"), ((7,), "█"), ((0.1, 100), "▁█")]
)
def test_a_sparkline_has_a_character_for_each_value(values: tuple[float, ...], text: str) -> None:
    assert sparkline(values) == text


def test_columns_are_as_wide_as_their_widest_cell_and_nothing_moves_the_cursor() -> None:
    lines = list(table(("A", "B"), [("long cell", "x"), ("y", ("red\x1b[2Jtext", 31))]))
    assert lines == ["A          B", "long cell  x", "y          red\\x1b[2Jtext"]

"""The sliding window drops old seconds, and its quantiles are accurate to five percent."""

from __future__ import annotations

import random
import statistics

import pytest

from msctl.telemetry.metrics.sliding_window import SlidingWindow, quantile


def test_rate_covers_the_last_ten_whole_seconds() -> None:
    window = SlidingWindow(0.0)
    for second in range(20):
        for _ in range(second):
            window.record(second + 0.5, 0.001)
    assert window.rate(20.0) == sum(range(10, 20)) / 10


def test_rate_of_a_new_window_covers_only_its_own_seconds() -> None:
    window = SlidingWindow(100.2)
    for _ in range(30):
        window.record(100.5, 0.001)
    assert window.rate(100.9) == 30
    assert window.rate(103.0) == 10


def test_seconds_older_than_a_minute_are_dropped() -> None:
    window = SlidingWindow(0.0)
    window.record(0.0, 5.0, error=True)
    assert quantile([window], 59.9, 0.95) is not None
    assert quantile([window], 60.0, 0.95) is None
    assert window.rate(60.0) == window.error_rate(60.0) == 0


def test_a_long_pause_clears_every_slot() -> None:
    window = SlidingWindow(0.0)
    for second in range(60):
        window.record(float(second), 0.001)
    assert window.recent(1_000.0) == (0,) * 30


def test_errors_are_counted_separately() -> None:
    window = SlidingWindow(0.0)
    for number in range(20):
        window.record(1.0, 0.001, error=number % 4 == 0)
    assert (window.rate(2.0), window.error_rate(2.0)) == (10, 2.5)


def test_recent_counts_are_oldest_first_without_the_current_second() -> None:
    window = SlidingWindow(0.0)
    for second in (1, 2, 2, 3, 3, 3):
        window.record(float(second), 0.001)
    assert window.recent(3.5, 3) == (0, 1, 2)


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_quantile_is_within_five_percent(q: float) -> None:
    chance = random.Random(1)
    durations = [chance.lognormvariate(-5, 1) for _ in range(5_000)]
    window = SlidingWindow(0.0)
    for number, seconds in enumerate(durations):
        window.record(number % 60, seconds)
    true = statistics.quantiles(durations, n=1000)[int(q * 1000) - 1]
    assert quantile([window], 59.5, q) == pytest.approx(true, rel=0.06)


def test_a_zero_duration_can_be_recorded() -> None:
    window = SlidingWindow(0.0)
    window.record(0.0, 0.0)
    assert quantile([window], 0.5, 0.95) == pytest.approx(1e-6, rel=0.1)

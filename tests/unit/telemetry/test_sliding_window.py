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
    assert window.recent(1_000.0, 60) == (0,) * 60
    assert window.durations(1_000.0) == {}


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


def test_the_last_second_that_is_over_is_part_of_the_rate_and_the_present_one_is_not() -> None:
    window = SlidingWindow(0.0)
    for second, events in ((9, 5), (10, 7), (19, 11), (20, 13)):
        for _ in range(events):
            window.record(second + 0.5, 0.001)
    assert window.rate(20.9) == (7 + 11) / 10
    assert window.recent(20.9, 2) == (0, 11)


def test_a_window_of_two_seconds_has_their_mean() -> None:
    window = SlidingWindow(100.0)
    for second, events in ((100, 1), (101, 2), (102, 9)):
        for _ in range(events):
            window.record(float(second), 0.001)
    assert (window.rate(101.0), window.rate(102.0)) == (1.0, 1.5)


def test_a_slot_is_reused_after_a_minute_and_only_that_one() -> None:
    window = SlidingWindow(0.0)
    for second in range(60):
        window.record(float(second), 0.001, error=True)
    window.record(60.0, 0.001)
    assert sum(window.durations(60.0).values()) == 60
    assert window.recent(61.0, 59) == (1,) * 59
    assert window.error_rate(61.0) == 0.9
    assert sum(window.durations(90.0).values()) == 30


def test_reading_later_drops_what_is_old() -> None:
    window = SlidingWindow(0.0)
    window.record(5.0, 0.001)
    assert window.recent(20.0, 15) == (1, *[0] * 14)
    assert window.rate(66.0) == 0.0
    assert window.durations(66.0) == {}
    assert window.recent(66.0) == (0,) * 30


def test_an_event_that_is_reported_late_counts_in_its_own_second() -> None:
    window = SlidingWindow(0.0)
    window.record(30.0, 0.001)
    window.record(29.0, 0.001)
    assert window.recent(31.0, 3) == (0, 1, 1)


def test_a_quantile_is_the_middle_of_a_bucket_an_eighth_of_a_doubling_wide() -> None:
    windows = [SlidingWindow(0.0), SlidingWindow(0.0)]
    for window, seconds in zip(windows, (1.0, 4.0), strict=True):
        window.record(0.0, seconds)
    middle = 2 ** (0.5 / 8)
    assert quantile(windows, 0.0, 0.5) == pytest.approx(middle)
    assert quantile(windows, 0.0, 0.51) == pytest.approx(4 * middle)
    assert quantile(windows, 0.0, 1.0) == pytest.approx(4 * middle)
    assert quantile([], 0.0, 0.5) is None


@pytest.mark.parametrize("seconds", [0.003, 0.05, 1.7, 42.0])
def test_a_quantile_is_within_half_a_bucket(seconds: float) -> None:
    window = SlidingWindow(0.0)
    window.record(0.0, seconds)
    assert quantile([window], 0.0, 0.5) == pytest.approx(seconds, rel=2 ** (0.5 / 8) - 1 + 1e-9)


@pytest.mark.parametrize("pause", [59, 60, 61, 119, 120, 121])
def test_after_a_pause_nothing_older_than_a_minute_is_left(pause: int) -> None:
    window = SlidingWindow(0.0)
    for second in range(60):
        window.record(float(second), 0.001)
    now = 59.0 + pause
    assert sum(window.durations(now).values()) == max(0, 60 - pause)

"""CPU usage as a percentage."""

from __future__ import annotations

import os

import pytest

from msctl.processes.usage import Meter, measure


def test_the_first_measurement_is_since_the_start_and_later_ones_since_the_last() -> None:
    meter = Meter()
    assert meter.take(10.0, uptime=10.0, cpu_s=5.0) == pytest.approx(50.0)
    assert meter.take(12.0, uptime=12.0, cpu_s=5.0) == 0.0
    assert meter.take(13.0, uptime=13.0, cpu_s=7.0) == pytest.approx(200.0)


def test_measurements_in_quick_succession_are_equal() -> None:
    meter = Meter()
    meter.take(10.0, 10.0, 1.0)
    assert meter.take(10.1, 10.1, 1.1) == pytest.approx(10.0)


def test_an_exited_process_does_not_make_the_usage_negative() -> None:
    meter = Meter()
    meter.take(10.0, 10.0, 9.0)
    assert meter.take(20.0, 20.0, 1.0) == 0.0


def test_own_usage_is_measured_and_an_exited_process_counts_zero() -> None:
    seconds, memory = measure([os.getpid(), 2**22 + 1])
    assert seconds > 0
    assert memory > 1_000_000

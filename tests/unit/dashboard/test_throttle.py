"""Guesses of the password get slower, and addresses are forgotten within a limit."""

from __future__ import annotations

from msctl.dashboard.throttle import MAX_ADDRESSES, MAX_DELAY_S, Throttle
from tests.support.clock import FakeClock


def test_the_first_failures_are_free_and_later_ones_double_the_delay() -> None:
    clock = FakeClock()
    throttle = Throttle(clock.monotonic)
    delays = []
    for _ in range(6):
        throttle.fail("a")
        delays.append(throttle.delay("a"))
    assert delays == [0.0, 0.0, 1.0, 2.0, 4.0, 8.0]
    clock.set(8.0)
    assert throttle.delay("a") == 0.0


def test_the_delay_is_bounded() -> None:
    throttle = Throttle(FakeClock().monotonic)
    for _ in range(10_000):
        throttle.fail("a")
    assert throttle.delay("a") == MAX_DELAY_S


def test_addresses_are_counted_separately_and_a_success_forgets_them() -> None:
    throttle = Throttle(FakeClock().monotonic)
    assert [throttle.fail("a") for _ in range(4)] == [1, 2, 3, 4]
    assert throttle.delay("b") == 0.0
    throttle.succeed("a")
    assert throttle.delay("a") == 0.0
    assert throttle.fail("a") == 1


def test_the_number_of_addresses_is_bounded() -> None:
    throttle = Throttle(FakeClock().monotonic)
    for number in range(MAX_ADDRESSES + 10):
        throttle.fail(str(number))
    assert throttle.fail("0") == 1
    assert throttle.fail(str(MAX_ADDRESSES + 9)) == 2

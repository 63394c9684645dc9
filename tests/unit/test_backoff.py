"""Waits double up to a ceiling, and never all come at the same moment."""

from __future__ import annotations

from msctl.backoff import Backoff


def test_waits_double_from_half_a_second_to_thirty() -> None:
    backoff = Backoff(rand=lambda: 0.5)
    assert [backoff.next() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_jitter_is_a_fifth_either_way() -> None:
    assert Backoff(rand=lambda: 0.0).next() == 0.4
    assert Backoff(rand=lambda: 1.0).next() == 0.6


def test_a_reset_starts_again_with_the_shortest_wait() -> None:
    backoff = Backoff(rand=lambda: 0.5)
    for _ in range(5):
        backoff.next()
    backoff.reset()
    assert backoff.next() == 0.5


def test_a_thousand_failures_still_wait_no_longer_than_the_ceiling() -> None:
    backoff = Backoff(rand=lambda: 0.5)
    assert [backoff.next() for _ in range(2000)][-1] == 30

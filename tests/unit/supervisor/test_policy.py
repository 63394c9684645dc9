"""Restart decisions, by table and by property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.model.project import RestartPolicy, ServiceSpec
from msctl.model.worker import Outcome
from msctl.supervisor.policy import (
    MAX_FAILURES,
    Done,
    GiveUp,
    RestartDecision,
    Restarts,
    Retry,
    restart_policy,
)

OK = Outcome(True, "exit 0")
BAD = Outcome(False, "exit 1")
HOPELESS = Outcome(False, "command not found: x", final=True)


def restarts() -> Restarts:
    return Restarts(lambda: 0.5)


@pytest.mark.parametrize(
    ("policy", "outcome", "verdict"),
    [
        (RestartPolicy.ON_FAILURE, OK, Done("exit 0")),
        (RestartPolicy.ON_FAILURE, BAD, Retry(0.5, "exit 1")),
        (RestartPolicy.ON_FAILURE, HOPELESS, GiveUp("command not found: x")),
        (RestartPolicy.ALWAYS, OK, Retry(0.5, "exit 0")),
        (RestartPolicy.ALWAYS, BAD, Retry(0.5, "exit 1")),
        (RestartPolicy.ALWAYS, HOPELESS, GiveUp("command not found: x")),
        (RestartPolicy.NO, OK, Done("exit 0")),
        (RestartPolicy.NO, BAD, GiveUp("exit 1")),
    ],
)
def test_what_each_policy_does(policy: RestartPolicy, outcome: Outcome, verdict: RestartDecision) -> None:
    assert restarts().decide(policy, outcome) == verdict


def test_the_pauses_double_and_the_fifth_failure_in_a_row_is_the_last() -> None:
    one = restarts()
    verdicts = [one.decide(RestartPolicy.ON_FAILURE, BAD) for _ in range(5)]
    assert verdicts[:4] == [Retry(d, "exit 1") for d in (0.5, 1.0, 2.0, 4.0)]
    assert verdicts[4] == GiveUp("exit 1, 5 times in a row")


def test_half_a_minute_of_readiness_clears_the_count_and_less_does_not() -> None:
    one = restarts()
    for _ in range(3):
        one.decide(RestartPolicy.ON_FAILURE, BAD)
    assert one.decide(RestartPolicy.ON_FAILURE, BAD, ready_for=29.9) == Retry(4.0, "exit 1")
    assert one.decide(RestartPolicy.ON_FAILURE, BAD, ready_for=30.0) == Retry(0.5, "exit 1")


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=30))
def test_never_more_than_so_many_failures_in_a_row_without_stability(
    history: list[tuple[bool, float]],
) -> None:
    one = restarts()
    in_a_row = 0
    for success, ready_for in history:
        verdict = one.decide(RestartPolicy.ALWAYS, OK if success else BAD, ready_for)
        in_a_row = 1 if ready_for >= 30 else in_a_row + 1
        if in_a_row >= MAX_FAILURES:
            assert isinstance(verdict, GiveUp)
            return
        assert isinstance(verdict, Retry)


@pytest.mark.parametrize(
    ("policy", "oneshot", "expected"),
    [
        (RestartPolicy.ALWAYS, False, RestartPolicy.ALWAYS),
        (RestartPolicy.ALWAYS, True, RestartPolicy.ON_FAILURE),
        (RestartPolicy.ON_FAILURE, True, RestartPolicy.ON_FAILURE),
        (RestartPolicy.NO, True, RestartPolicy.NO),
        (RestartPolicy.NO, False, RestartPolicy.NO),
    ],
)
def test_a_oneshot_that_succeeded_is_not_run_again(
    policy: RestartPolicy, oneshot: bool, expected: RestartPolicy
) -> None:
    assert restart_policy(ServiceSpec("a", command=("x",), restart=policy, oneshot=oneshot)) is expected


def test_failures_are_counted_and_half_a_minute_of_readiness_forgets_them() -> None:
    one = restarts()
    counts = []
    for ready_for in (0.0, 29.0, 1.0, 30.0, 0.0):
        one.decide(RestartPolicy.ON_FAILURE, BAD, ready_for)
        counts.append(one.consecutive_failures)
    assert counts == [1, 2, 3, 1, 2]

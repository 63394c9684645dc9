"""Restart decisions, by table and by property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.model.service_policies import RestartPolicy
from msctl.model.service_spec import ServiceSpec
from msctl.model.worker import Outcome
from msctl.supervisor.policy import (
    MAX_RESTARTS,
    Done,
    GiveUp,
    RestartDecision,
    RestartLimit,
    Restarts,
    Retry,
    restart_limit,
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


def test_the_pauses_double_and_the_failure_after_five_restarts_is_the_last() -> None:
    one = restarts()
    verdicts = [one.decide(RestartPolicy.ON_FAILURE, BAD) for _ in range(6)]
    assert verdicts[:5] == [Retry(d, "exit 1") for d in (0.5, 1.0, 2.0, 4.0, 8.0)]
    assert verdicts[5] == GiveUp("exit 1, after 5 restarts")


def test_half_a_minute_of_readiness_clears_the_count_and_less_does_not() -> None:
    one = restarts()
    for _ in range(3):
        one.decide(RestartPolicy.ON_FAILURE, BAD)
    assert one.decide(RestartPolicy.ON_FAILURE, BAD, ready_for=29.9) == Retry(4.0, "exit 1")
    assert one.decide(RestartPolicy.ON_FAILURE, BAD, ready_for=30.0) == Retry(0.5, "exit 1")


@given(st.lists(st.floats(0, 100), max_size=30))
def test_never_more_than_so_many_restarts_in_a_row_without_stability(history: list[float]) -> None:
    one = restarts()
    in_a_row = 0
    for ready_for in history:
        verdict = one.decide(RestartPolicy.ON_FAILURE, BAD, ready_for)
        in_a_row = 0 if ready_for >= 30 else in_a_row
        if in_a_row >= MAX_RESTARTS:
            assert isinstance(verdict, GiveUp)
            return
        assert isinstance(verdict, Retry)
        in_a_row += 1


def limit_of(policy: RestartPolicy, count: int | None = None, window: float | None = None) -> RestartLimit:
    return restart_limit(
        ServiceSpec("a", command=("x",), restart=policy, max_restarts=count, restart_window=window)
    )


def test_always_has_no_limit_and_a_success_resets_the_pause() -> None:
    one, limit = restarts(), limit_of(RestartPolicy.ALWAYS)
    for _ in range(100):
        assert one.decide(RestartPolicy.ALWAYS, OK, 0.8, limit=limit) == Retry(0.5, "exit 0")
    for _ in range(100):
        assert isinstance(one.decide(RestartPolicy.ALWAYS, BAD, limit=limit), Retry)


@pytest.mark.parametrize("policy", [RestartPolicy.ALWAYS, RestartPolicy.ON_FAILURE])
def test_max_restarts_is_the_number_of_restarts(policy: RestartPolicy) -> None:
    for count, reason in ((0, "exit 1"), (1, "exit 1, after 1 restart"), (2, "exit 1, after 2 restarts")):
        one, limit = restarts(), limit_of(policy, count)
        for _ in range(count):
            assert isinstance(one.decide(policy, BAD, limit=limit), Retry)
        assert one.decide(policy, BAD, limit=limit) == GiveUp(reason)


def test_only_the_restarts_within_the_window_count() -> None:
    one, limit = restarts(), limit_of(RestartPolicy.ON_FAILURE, 2, 10.0)
    verdicts = [
        one.decide(RestartPolicy.ON_FAILURE, BAD, 100.0, limit=limit, now=now)
        for now in (0, 9, 10, 19, 20, 21)
    ]
    assert [isinstance(verdict, Retry) for verdict in verdicts] == [True, True, True, True, True, False]
    assert verdicts[-1] == GiveUp("exit 1, after 2 restarts in 10 s")


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

"""Breakers, limits, retry budgets, balancing and CORS, each at its boundaries."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from msctl.gateway.message.headers import Field
from msctl.gateway.policies.balancer import Balancer
from msctl.gateway.policies.breaker import AttemptResult, Breaker
from msctl.gateway.policies.cors import OWNED, preflight, preflight_for, response_fields
from msctl.gateway.policies.limits import MAX_CLIENTS, Allowance, RateLimiter, RetryBudget
from msctl.model.route_spec import CorsSpec, RateLimitSpec
from msctl.model.snapshots import BreakerState
from msctl.model.upstream_policy import Balance
from tests.support.clock import FakeClock

# --- breaker ------------------------------------------------------------------------------------------


def state(breaker: Breaker) -> BreakerState:
    return breaker.state


def attempt(breaker: Breaker, result: AttemptResult) -> None:
    breaker.on_start()
    breaker.record(result)


def test_five_failures_open_a_breaker_for_five_seconds_and_then_longer_up_to_a_minute() -> None:
    clock = FakeClock()
    breaker = Breaker(clock)
    for _ in range(4):
        attempt(breaker, AttemptResult.FAILED)
        assert (breaker.state, breaker.allows, breaker.retry_in) == (BreakerState.CLOSED, True, 0.0)
    attempt(breaker, AttemptResult.FAILED)
    waits = [breaker.retry_in]
    for _ in range(13):
        clock.set(clock.monotonic() + breaker.retry_in)
        attempt(breaker, AttemptResult.FAILED)
        waits.append(breaker.retry_in)
    assert waits == [min(60.0, 5.0 * n) for n in range(1, 15)]


def test_an_open_breaker_admits_nothing_until_its_time_is_over() -> None:
    clock = FakeClock()
    breaker = Breaker(clock, failures=1)
    attempt(breaker, AttemptResult.FAILED)
    for now, state, allows in (
        (0.0, BreakerState.OPEN, False),
        (4.9, BreakerState.OPEN, False),
        (5.0, BreakerState.HALF_OPEN, True),
    ):
        clock.set(now)
        assert (breaker.state, breaker.allows) == (state, allows)
    clock.set(99)
    assert (breaker.state, breaker.allows, breaker.retry_in) == (BreakerState.HALF_OPEN, True, 0.0)


def test_a_breaker_is_idle_while_it_has_nothing_to_remember() -> None:
    clock = FakeClock()
    breaker = Breaker(clock, failures=2)
    idle = [breaker.is_idle]
    for result in (AttemptResult.FAILED, AttemptResult.SUCCEEDED, AttemptResult.FAILED, AttemptResult.FAILED):
        attempt(breaker, result)
        idle.append(breaker.is_idle)
    clock.set(5)
    attempt(breaker, AttemptResult.SUCCEEDED)
    idle.append(breaker.is_idle)
    assert idle == [True, False, True, False, False, True]
    assert breaker.state is BreakerState.CLOSED


def test_a_late_success_does_not_close_an_open_breaker() -> None:
    breaker = Breaker(FakeClock(), failures=1)
    breaker.on_start()
    attempt(breaker, AttemptResult.FAILED)
    breaker.record(AttemptResult.SUCCEEDED)  # of the request that was in flight before it opened
    assert (breaker.state, breaker.is_idle) == (BreakerState.OPEN, False)


def test_a_breaker_that_closed_again_knows_nothing_of_the_past() -> None:
    clock = FakeClock()
    breaker = Breaker(clock, failures=2)
    for _ in range(2):
        attempt(breaker, AttemptResult.FAILED)
    clock.set(5)
    attempt(breaker, AttemptResult.FAILED)
    assert breaker.retry_in == 10
    clock.set(15)
    attempt(breaker, AttemptResult.SUCCEEDED)
    attempt(breaker, AttemptResult.FAILED)
    assert state(breaker) is BreakerState.CLOSED
    attempt(breaker, AttemptResult.FAILED)
    assert breaker.retry_in == 5
    clock.set(20)
    assert breaker.allows  # the probe before has ended


def test_a_cancelled_attempt_counts_neither_way() -> None:
    clock = FakeClock()
    breaker = Breaker(clock, failures=2)
    attempt(breaker, AttemptResult.FAILED)
    attempt(breaker, AttemptResult.NONE)
    assert state(breaker) is BreakerState.CLOSED
    attempt(breaker, AttemptResult.FAILED)
    assert state(breaker) is BreakerState.OPEN


def test_after_a_failed_or_cancelled_probe_another_is_let_through() -> None:
    clock = FakeClock()
    breaker = Breaker(clock, failures=1)
    attempt(breaker, AttemptResult.FAILED)
    for result in (AttemptResult.FAILED, AttemptResult.NONE, AttemptResult.FAILED):
        clock.set(clock.monotonic() + breaker.retry_in)
        breaker.on_start()
        allowed = [breaker.allows]
        breaker.record(result)
        clock.set(clock.monotonic() + breaker.retry_in)
        assert [*allowed, breaker.allows] == [False, True]


def test_new_limits_hold_from_the_next_failure_on() -> None:
    breaker = Breaker(FakeClock(), failures=5)
    attempt(breaker, AttemptResult.FAILED)
    breaker.reconfigure(2, 7.0, 8.0)
    attempt(breaker, AttemptResult.FAILED)
    assert breaker.retry_in == 7.0


# --- rate limits --------------------------------------------------------------------------------------


def test_a_bucket_holds_its_burst_and_fills_at_its_rate() -> None:
    clock = FakeClock()
    clock.set(1000)
    limiter = RateLimiter(RateLimitSpec(requests=10, period=5, burst=2), clock)
    assert limiter.take("a") == Allowance(True, 1, 0.5, 0.0)
    assert limiter.take("a") == Allowance(True, 0, 1.0, 0.0)
    assert limiter.take("a") == Allowance(False, 0, 1.0, 0.5)
    clock.set(1000.25)
    assert limiter.take("a") == Allowance(False, 0, 0.75, 0.25)
    clock.set(1000.5)
    assert limiter.take("a") == Allowance(True, 0, 1.0, 0.0)
    clock.set(1002)
    assert limiter.take("a") == Allowance(True, 1, 0.5, 0.0)


def test_without_a_burst_a_client_may_send_the_whole_allowance_at_once() -> None:
    limiter = RateLimiter(RateLimitSpec(requests=3, period=60), FakeClock())
    assert [limiter.take("a").allowed for _ in range(4)] == [True, True, True, False]


def test_the_limit_is_stated_in_whole_requests_and_seconds() -> None:
    limiter = RateLimiter(RateLimitSpec(requests=3, period=2, burst=4), FakeClock())
    assert limiter.fields(limiter.take("a")) == (
        (b"RateLimit-Policy", b'"default";q=4;w=3'),
        (b"RateLimit", b'"default";r=3;t=1'),
    )


def test_ten_thousand_clients_are_remembered_and_the_longest_unseen_is_dropped() -> None:
    assert MAX_CLIENTS == 10_000
    limiter = RateLimiter(RateLimitSpec(requests=1, period=60), FakeClock(), clients=2)
    for key in ("a", "b", "a", "c"):
        limiter.take(key)
    assert len(limiter) == 2
    assert [limiter.take(key).allowed for key in ("c", "a", "b")] == [False, False, True]


# --- retry budget -------------------------------------------------------------------------------------


def retries(budget: RetryBudget) -> int:
    """How many are allowed now."""
    return next(n for n in itertools.count() if not budget.retry())


def test_a_fifth_of_the_requests_and_ten_a_second_may_be_retried() -> None:
    budget = RetryBudget(FakeClock())
    for _ in range(50):
        budget.request(0.0)
    assert retries(budget) == 10 + 100


def test_requests_and_retries_are_forgotten_after_ten_seconds() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock, ratio=0.5, floor=0.0)
    for second in range(3):
        for _ in range(10):
            budget.request(float(second))
    clock.set(2.0)
    assert retries(budget) == 15
    clock.set(10.9)  # the requests of second 0 have left the window
    assert retries(budget) == 0
    clock.set(12.0)  # all requests have left it, and all retries
    assert retries(budget) == 0
    budget.request(12.0)
    assert retries(budget) == 1


def test_retries_of_a_past_window_do_not_count() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock, ratio=0.0, floor=1.0, window=3.0)
    assert retries(budget) == 3
    for now, allowed in ((0.9, 0), (1.0, 0), (2.9, 0), (3.0, 3), (3.5, 0), (6.0, 3)):
        clock.set(now)
        budget.request(now)
        assert (now, retries(budget)) == (now, allowed)


def test_a_request_counts_in_its_own_second_also_at_the_turn_of_it() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock, ratio=1.0, floor=0.0, window=3.0)
    for now in (0.0, 1.0):
        budget.request(now)
    clock.set(3.0)
    assert retries(budget) == 1
    clock.set(4.0)
    assert retries(budget) == 0


def test_retries_are_allowed_again_at_the_turn_of_a_second() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock, ratio=0.0, floor=1.0, window=2.0)
    assert retries(budget) == 2
    clock.set(1.0)
    assert not budget.retry()
    clock.set(2.0)
    assert budget.retry()


def test_no_request_and_no_floor_means_no_retry() -> None:
    budget = RetryBudget(FakeClock(), floor=0.0)
    assert not budget.retry()
    for _ in range(5):
        budget.request(0.5)
    assert (budget.retry(), budget.retry()) == (True, False)


# --- balancer -----------------------------------------------------------------------------------------


def test_the_only_instance_is_chosen_without_asking_for_a_number() -> None:
    def never(_below: int) -> int:
        raise AssertionError("there is nothing to choose")

    for method in Balance:
        assert Balancer(never).choose(method, [7]) == 0


def test_round_robin_visits_every_instance_in_turn() -> None:
    balancer = Balancer()
    assert [balancer.choose(Balance.ROUND_ROBIN, [9, 0, 0]) for _ in range(7)] == [1, 2, 0, 1, 2, 0, 1]
    assert [balancer.choose(Balance.ROUND_ROBIN, [0, 0]) for _ in range(3)] == [0, 1, 0]


def test_round_robin_goes_on_from_the_start_when_instances_leave() -> None:
    balancer = Balancer()
    for _ in range(4):
        turn = balancer.choose(Balance.ROUND_ROBIN, [0] * 5)
    assert turn == 4
    assert [balancer.choose(Balance.ROUND_ROBIN, [0, 0]) for _ in range(2)] == [0, 1]
    for _ in range(2):
        turn = balancer.choose(Balance.ROUND_ROBIN, [0] * 3)
    assert turn == 0
    for _ in range(2):
        turn = balancer.choose(Balance.ROUND_ROBIN, [0] * 3)
    assert [turn, balancer.choose(Balance.ROUND_ROBIN, [0, 0])] == [2, 0]
    assert balancer.choose(Balance.ROUND_ROBIN, [0] * 3) == 1


@pytest.mark.parametrize("count", [2, 3, 5])
def test_two_different_instances_are_compared(count: int) -> None:
    for one in range(count):
        for step in range(count - 1):
            numbers = iter([(count, one), (count - 1, step)])

            def below(limit: int, numbers: object = numbers) -> int:
                wanted, number = next(numbers)  # type: ignore[call-overload]  # the iterator above
                assert limit == wanted
                return int(number)

            # Every instance but `one` has less to do.
            loads = [1 if index == one else 0 for index in range(count)]
            chosen = Balancer(below).choose(Balance.LEAST_LOADED, loads)
            assert chosen == (one + 1 + step) % count


@pytest.mark.parametrize("method", Balance)
def test_instances_are_chosen_by_their_weight(method: Balance) -> None:
    balancer = Balancer(random.Random(3).randrange)
    chosen = Counter(balancer.choose_weighted(method, [0, 0, 0], [6.0, 3.0, 1.0]) for _ in range(5000))
    assert [round(chosen[index] / 500) for index in range(3)] == [6, 3, 1]
    few = [balancer.choose_weighted(Balance.ROUND_ROBIN, [0, 0], [3.0, 1.0]) for _ in range(8)]
    assert few.count(1) in (1, 2, 3)


def test_a_loaded_instance_gives_way_to_one_that_has_less_for_its_weight() -> None:
    numbers = [0, (1 << 30) - 1]
    assert Balancer(lambda _: numbers[0]).choose_weighted(Balance.LEAST_LOADED, [9, 0], [3.0, 1.0]) == 0
    drawn = iter([*numbers, *numbers])
    balancer = Balancer(lambda _: next(drawn))
    assert balancer.choose_weighted(Balance.LEAST_LOADED, [3, 2], [3.0, 1.0]) == 0
    assert balancer.choose_weighted(Balance.LEAST_LOADED, [4, 1], [3.0, 1.0]) == 1


def test_equally_loaded_the_first_drawn_is_chosen() -> None:
    assert Balancer(lambda below: 0).choose(Balance.LEAST_LOADED, [4, 4]) == 0


# --- CORS ---------------------------------------------------------------------------------------------

ORIGIN = (b"Origin", b"https://app.test")
ASKED = (b"Access-Control-Request-Method", b"PUT")
VARY = (b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")


def cors(**keys: object) -> CorsSpec:
    return CorsSpec(**{"origins": ("https://app.test",), **keys})  # type: ignore[arg-type]  # keys of the spec


@pytest.mark.parametrize("name", ["origin", "credentials", "methods", "headers"])
def test_the_gateways_answer_replaces_the_services_permission(name: str) -> None:
    assert f"access-control-allow-{name}".encode() in OWNED
    assert {b"access-control-expose-headers", b"access-control-max-age"} <= OWNED


@pytest.mark.parametrize(
    ("method", "fields", "preflight"),
    [
        ("OPTIONS", (ORIGIN, ASKED), True),
        ("OPTIONS", (ORIGIN,), False),
        ("OPTIONS", (ASKED,), False),
        ("GET", (ORIGIN, ASKED), False),
    ],
)
def test_a_preflight_has_an_origin_and_the_method_to_come(
    method: str, fields: tuple[Field, ...], preflight: bool
) -> None:
    assert (preflight_for(method, fields) is not None) is preflight


def test_a_preflight_is_answered_with_what_the_route_allows() -> None:
    spec = cors(methods=("GET", "PUT"), headers=("X-A", "X-B"), max_age=60, credentials=True)
    assert preflight(spec, [ORIGIN, ASKED]) == [
        (b"Access-Control-Allow-Origin", b"https://app.test"),
        (b"Access-Control-Allow-Credentials", b"true"),
        (b"Access-Control-Allow-Methods", b"GET, PUT"),
        (b"Access-Control-Allow-Headers", b"X-A, X-B"),
        (b"Access-Control-Max-Age", b"60"),
        VARY,
    ]


def test_without_a_list_the_fields_that_were_asked_for_are_allowed() -> None:
    asked = (b"access-control-request-headers", b"x-c, x-d")
    assert (b"Access-Control-Allow-Headers", b"x-c, x-d") in preflight(
        cors(headers=()), [ORIGIN, ASKED, asked]
    )
    names = [name for name, _ in preflight(cors(headers=()), [ORIGIN, ASKED])]
    assert b"Access-Control-Allow-Headers" not in names


def test_another_origin_is_allowed_nothing() -> None:
    for fields in ([(b"Origin", b"https://evil.test"), ASKED], [ASKED]):
        assert preflight(cors(), fields) == [VARY]
        assert response_fields(cors(expose=("X-A",), credentials=True), fields) == [(b"Vary", b"Origin")]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (cors(), [(b"Access-Control-Allow-Origin", ORIGIN[1]), (b"Vary", b"Origin")]),
        (cors(origins=("*",)), [(b"Access-Control-Allow-Origin", b"*")]),
        (
            cors(origins=("*",), credentials=True),
            [
                (b"Access-Control-Allow-Origin", ORIGIN[1]),
                (b"Access-Control-Allow-Credentials", b"true"),
                (b"Vary", b"Origin"),
            ],
        ),
        (
            cors(origins=("*",), expose=("X-A", "X-B")),
            [(b"Access-Control-Allow-Origin", b"*"), (b"Access-Control-Expose-Headers", b"X-A, X-B")],
        ),
    ],
)
def test_a_response_names_its_origin_and_varies_with_it(spec: CorsSpec, expected: list[Field]) -> None:
    assert response_fields(spec, [ORIGIN]) == expected


def test_a_request_without_an_origin_gets_no_permission() -> None:
    assert response_fields(cors(origins=("*",), expose=("X",)), []) == []

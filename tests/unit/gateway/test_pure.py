"""The gateway's pure parts, on a fake clock."""

from __future__ import annotations

import json
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.gateway.message.headers import Hop, Trust, end_to_end, request_fields
from msctl.gateway.message.problems import Problem
from msctl.gateway.message.target import BadTargetError, is_authority, parse_target
from msctl.gateway.message.trace_context import continued, request_id, trace_id, traceparent
from msctl.gateway.policies.balancer import Balancer
from msctl.gateway.policies.breaker import Breaker
from msctl.gateway.policies.limits import RateLimiter, RetryBudget
from msctl.gateway.routing.routes import RouteTable
from msctl.http.websocket_frames import FrameTracker, close_frame
from msctl.model.address import host_name
from msctl.model.route_spec import RateLimitSpec, RouteSpec
from msctl.model.snapshots import BreakerState
from msctl.model.upstream_policy import Balance
from tests.support.clock import FakeClock

# --- routes ----------------------------------------------------------------------------------------


def chosen(
    routes: list[RouteSpec], path: str, method: str = "GET", host: str = "", **headers: str
) -> str | None:
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    match = RouteTable(routes).match(method, host, parse_target(path).elements, fields)
    return None if match is None else match.rule.spec.service


def test_prefixes_match_whole_elements() -> None:
    routes = [RouteSpec("/users", "users")]
    assert [
        chosen(routes, path) for path in ("/users", "/users/", "/users/1", "/userspace", "/", "//users")
    ] == [
        "users",
        "users",
        "users",
        None,
        None,
        None,
    ]


def test_a_slash_at_the_end_of_a_prefix_makes_no_difference() -> None:
    assert chosen([RouteSpec("/users/", "users")], "/users") == "users"


def test_the_more_specific_route_wins_in_the_order_of_gateway_api() -> None:
    routes = [
        RouteSpec("/", "root"),
        RouteSpec("/a", "prefix"),
        RouteSpec("/a", "get", methods=("GET",)),
        RouteSpec("/a", "header", headers={"X-V": "2"}),
        RouteSpec("/a", "headers", headers={"X-V": "2", "X-W": "3"}),
        RouteSpec("/a/b", "longer"),
        RouteSpec("/a", "exact", exact=True, methods=("PUT",)),
        RouteSpec("/", "wild", hosts=("*.test",)),
        RouteSpec("/", "host", hosts=("a.test",)),
        RouteSpec("/", "deep", hosts=("*.b.test",)),
    ]
    assert chosen(routes, "/other") == "root"
    assert chosen(routes, "/a/x", "POST") == "prefix"
    assert chosen(routes, "/a") == "get"
    assert chosen(routes, "/a", "POST", **{"x-v": "2"}) == "header"
    assert chosen(routes, "/a", "POST", **{"X-V": "2", "X-W": "3"}) == "headers"
    assert chosen(routes, "/a/b/c") == "longer"
    assert chosen(routes, "/a", "PUT") == "exact"
    assert chosen(routes, "/a", host="a.test") == "host"
    assert chosen(routes, "/a", host="x.test") == "wild"
    assert chosen(routes, "/a", host="x.b.test") == "deep"
    assert chosen(routes, "/a", host="test") == "get"


def test_variables_stand_for_one_element() -> None:
    routes = [
        RouteSpec("/u/{id}", "one", exact=True),
        RouteSpec("/u/me", "me"),
        RouteSpec("/u/{id}/o", "orders"),
    ]
    assert [chosen(routes, path) for path in ("/u/1", "/u/me", "/u/1/o/2", "/u/1/x", "/u/")] == [
        "one",
        "me",
        "orders",
        None,
        None,
    ]
    match = RouteTable(routes).match("GET", "", ("u", "7"), [])
    assert match is not None
    assert match.variables == {"id": "7"}


def test_nearest_routes_are_sorted_by_similarity() -> None:
    table = RouteTable([RouteSpec(path, "s") for path in ("/orders", "/users", "/hello", "/order-items")])
    assert table.nearest("/order")[0] == "/orders"
    assert len(table.nearest("/zzz")) == 3


# --- targets -----------------------------------------------------------------------------------------


def test_a_target_keeps_its_bytes() -> None:
    target = parse_target("/a%2Fb;c//d?e=%2e%2e/../f?g")
    assert (target.path, target.query) == ("/a%2Fb;c//d", "e=%2e%2e/../f?g")
    assert parse_target("/a?").query == ""
    assert parse_target("/a").query is None


def test_an_absolute_target_gives_host_and_path() -> None:
    assert parse_target("HTTP://h.test:8/p?q")[:3] == ("/p", "q", "h.test:8")
    assert parse_target("http://h.test?q")[:3] == ("/", "q", "h.test")
    assert parse_target("http://[::1]:8/")[2] == "[::1]:8"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30))
def test_an_accepted_path_resolves_to_itself(raw: str) -> None:
    try:
        target = parse_target("/" + raw)
    except BadTargetError:
        return
    from urllib.parse import unquote

    assert not {".", ".."} & {
        part.split(";")[0] for part in unquote(target.path).replace("\\", "/").split("/")
    }


@pytest.mark.parametrize("host", ["a", "a.test:80", "[::1]", "[::1]:80", "a_b", "127.0.0.1:8080", "%41"])
def test_hosts(host: str) -> None:
    assert is_authority(host)


@pytest.mark.parametrize(
    "host", ["", "a b", "u@a", "a/b", "a,b", "[::1", "a:b", "a:80:80", "a\tb", "ä", "?", "#"]
)
def test_invalid_hosts(host: str) -> None:
    assert not is_authority(host)


def test_host_names_have_no_port_and_no_case() -> None:
    assert [host_name(host) for host in ("A.test:80", "[::1]:80", "b.:80")] == ["a.test", "[::1]", "b"]


# --- headers -----------------------------------------------------------------------------------------


def test_connection_options_are_read_after_an_empty_first_line() -> None:
    fields = [
        (b"Connection", b""),
        (b"X-A", b"1"),
        (b"CONNECTION", b" , x-a,close,"),
        (b"Content-Length", b"3"),
    ]
    assert end_to_end([*fields, (b"connection", b"content-length")]) == [(b"Content-Length", b"3")]


def test_ipv6_peers_are_written_as_rfc_7239_requires() -> None:
    hop = Hop("2001:db8::1", "https", "a.test:8", "msctl-1", forwarded=True)
    fields = dict(request_fields([], hop, keep_trace=False))
    assert fields[b"Forwarded"] == b'for="[2001:db8::1]";host="a.test:8";proto=https'
    assert fields[b"X-Forwarded-For"] == b"2001:db8::1"
    assert (
        dict(request_fields([], Hop("", "http", "", "m"), keep_trace=False))[b"X-Forwarded-For"] == b"unknown"
    )


def test_trust_is_by_network() -> None:
    trust = Trust.of(["10.0.0.0/8", "::1"])
    assert [trust.trusts(peer) for peer in ("10.1.2.3", "11.0.0.1", "::1", "fe80::1%eth0", "", "x")] == [
        True,
        False,
        True,
        False,
        False,
        False,
    ]
    with pytest.raises(ValueError, match="nonsense"):
        Trust.of(["nonsense"])


# --- trace context -------------------------------------------------------------------------------------

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    "value",
    [
        f"00-{TRACE}-00f067aa0ba902b7",
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
        f"00-{TRACE}-0000000000000000-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-00f067aa0ba902b7-01-more",
        "",
    ],
)
def test_invalid_traceparents(value: str) -> None:
    assert continued([value.encode()]) is None


def test_a_later_version_is_continued_as_ours() -> None:
    trace = continued([f"01-{TRACE}-00f067aa0ba902b7-01-more".encode()])
    assert trace == (TRACE, "01")
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", traceparent(trace))
    assert continued([b"x", b"y"]) is None
    fresh = traceparent(None)
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", fresh)
    assert trace_id(fresh) == fresh.split("-")[1]


def test_ids_never_repeat_across_the_pool_s_end() -> None:
    given = [request_id() for _ in range(1000)]
    assert len(set(given)) == 1000
    assert {len(identifier) for identifier in given} == {32}


# --- balancer --------------------------------------------------------------------------------------------


def test_the_less_loaded_of_two_random_instances_is_chosen() -> None:
    numbers = iter([0, 0, 2, 1])
    balancer = Balancer(lambda below: next(numbers))
    assert balancer.choose(Balance.LEAST_LOADED, [5, 1, 0]) == 1  # 0 and 1
    assert balancer.choose(Balance.LEAST_LOADED, [5, 1, 0]) == 2  # 2 and (2 + 1 + 1) % 3 = 1


@given(st.lists(st.integers(0, 9), min_size=2, max_size=6), st.randoms())
def test_the_most_loaded_instance_is_never_chosen(loads: list[int], random: object) -> None:
    balancer = Balancer(random.randrange)  # type: ignore[attr-defined] # hypothesis's random
    index = balancer.choose(Balance.LEAST_LOADED, loads)
    assert loads.count(max(loads)) > 1 or loads[index] < max(loads) or len(loads) == 1


def test_round_robin_takes_turns_also_when_the_number_changes() -> None:
    balancer = Balancer()
    turns = [balancer.choose(Balance.ROUND_ROBIN, [0, 0, 0]) for _ in range(6)]
    assert sorted(turns[:3]) == [0, 1, 2]
    assert turns[3:] == turns[:3]
    assert all(balancer.choose(Balance.ROUND_ROBIN, [0, 0]) < 2 for _ in range(5))


# --- breaker ---------------------------------------------------------------------------------------------


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.on_start()
        breaker.failed()


def test_only_consecutive_failures_open_the_breaker() -> None:
    breaker = Breaker(FakeClock(), failures=3)
    fail(breaker, 2)
    breaker.on_start()
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, 1)
    assert (breaker.state, breaker.allows, breaker.retry_in) == (BreakerState.OPEN, False, 5.0)


def test_half_open_lets_exactly_one_probe_through() -> None:
    clock = FakeClock()
    breaker = Breaker(clock, failures=1)
    fail(breaker, 1)
    clock.set(5)
    assert (breaker.state, breaker.allows) == (BreakerState.HALF_OPEN, True)
    breaker.on_start()
    assert not breaker.allows
    breaker.succeeded()
    assert (breaker.state, breaker.allows, breaker.retry_in) == (BreakerState.CLOSED, True, 0.0)


def test_each_consecutive_opening_is_longer_up_to_the_cap() -> None:
    clock = FakeClock()
    breaker = Breaker(clock, failures=1, open_for=5, cap=12)
    waits = []
    for _ in range(4):
        breaker.on_start()
        breaker.failed()
        waits.append(breaker.retry_in)
        clock.set(clock.monotonic() + breaker.retry_in)
    assert waits == [5, 10, 12, 12]
    breaker.on_start()
    breaker.succeeded()
    fail(breaker, 1)
    assert breaker.retry_in == 5


def test_a_cancelled_probe_allows_another_and_does_not_count() -> None:
    clock = FakeClock()
    breaker = Breaker(clock, failures=1)
    fail(breaker, 1)
    clock.set(5)
    breaker.on_start()
    breaker.cancelled()
    assert breaker.allows
    assert breaker.state is BreakerState.HALF_OPEN


def test_failures_in_flight_at_opening_do_not_prolong_it() -> None:
    clock = FakeClock()
    breaker = Breaker(clock, failures=1)
    breaker.on_start()
    fail(breaker, 1)
    breaker.failed()
    assert breaker.retry_in == 5


# --- limits ----------------------------------------------------------------------------------------------


def test_a_bucket_fills_again_with_time() -> None:
    clock = FakeClock()
    limiter = RateLimiter(RateLimitSpec(requests=2, period=1, burst=3), clock)
    assert [limiter.take("a").allowed for _ in range(4)] == [True, True, True, False]
    assert limiter.take("a").retry_after == pytest.approx(0.5)
    assert limiter.take("b").allowed
    clock.set(0.5)
    assert limiter.take("a").allowed
    clock.set(100)
    assert limiter.take("a").remaining == 2


def test_the_table_of_buckets_is_bounded_and_forgets_the_oldest() -> None:
    limiter = RateLimiter(RateLimitSpec(requests=1, period=60), FakeClock(), clients=2)
    for key in ("a", "b", "a", "c"):
        limiter.take(key)
    assert len(limiter) == 2
    assert not limiter.take("a").allowed
    assert limiter.take("b").allowed


def test_the_retry_budget_is_a_share_of_the_requests_and_a_floor() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock, ratio=0.2, floor=0.1, window=10)
    for _ in range(20):
        budget.request(0.0)
    assert [budget.retry() for _ in range(6)] == [True] * 5 + [False]
    clock.set(9)
    assert not budget.retry()
    clock.set(11)  # what was asked at the start is forgotten
    assert [budget.retry() for _ in range(2)] == [True, False]


# --- problems --------------------------------------------------------------------------------------------


def test_a_problem_document_has_all_its_members() -> None:
    problem = Problem(
        502, 'it "broke" €', error="connection_refused", service="s", instance="s-1", retry_after=1.2
    )
    document = json.loads(problem.at(2).body("msctl-1", "id"))
    assert document == {
        "type": "about:blank",
        "title": "Bad Gateway",
        "status": 502,
        "detail": 'it "broke" €',
        "instance": "urn:msctl:request:id",
        "hop": "msctl-1",
        "service": "s",
        "service_instance": "s-1",
        "attempt": 2,
        "reason": "connection_refused",
    }
    fields = dict(problem.headers("msctl-1"))
    assert fields[b"Retry-After"] == b"2"
    status = b'msctl-1; error=connection_refused; next-hop="s-1"; details="it \\"broke\\" ?"'
    assert fields[b"Proxy-Status"] == status


# --- WebSocket frames ------------------------------------------------------------------------------------


def frame(payload: bytes, *, mask: bool) -> bytes:
    length, bit = len(payload), 0x80 if mask else 0
    if length < 126:
        head = struct.pack("!BB", 0x82, bit | length)
    elif length < 65536:
        head = struct.pack("!BBH", 0x82, bit | 126, length)
    else:
        head = struct.pack("!BBQ", 0x82, bit | 127, length)
    return head + (b"mask" if mask else b"") + payload


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1, 125, 126, 200, 65535, 65536]), st.booleans()), min_size=1, max_size=5
    ),
    st.lists(st.integers(1, 70000), max_size=10),
)
def test_frame_boundaries_are_found_in_any_pieces(frames: list[tuple[int, bool]], cuts: list[int]) -> None:
    stream = [frame(b"x" * size, mask=mask) for size, mask in frames]
    data = b"".join(stream)
    tracker = FrameTracker()
    position = 0
    for cut in [*cuts, len(data)]:
        assert tracker.advance(data[position : position + cut]) == len(data[position : position + cut])
        position += cut
        if position < len(data):
            ends = [sum(map(len, stream[: i + 1])) for i in range(len(stream))]
            assert tracker.at_boundary == (position in ends)
    assert tracker.at_boundary
    assert FrameTracker().advance(data, stop=True) == len(stream[0])


def test_close_frames() -> None:
    assert close_frame(1001) == b"\x88\x02\x03\xe9"
    assert close_frame(1001, mask=b"\x01\x02\x03\x04") == b"\x88\x82\x01\x02\x03\x04\x02\xeb"

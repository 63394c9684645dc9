"""Plans are cached by everything that they depend on, so no client gets another client's plan."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from msctl.clock import SystemClock
from msctl.gateway.message.headers import Field, Trust
from msctl.gateway.message.problems import ProblemError
from msctl.gateway.message.target import Target
from msctl.gateway.request.plan import Planner
from msctl.gateway.routing.route_settings import settings
from msctl.gateway.routing.routes import RouteTable
from msctl.gateway.upstream.remote_keys import RemoteKeys
from msctl.http.head_reader import HeadReader
from msctl.http.limits import DEFAULT_LIMITS
from msctl.model.exchange import RequestHead
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from msctl.model.upstream_policy import UpstreamPolicy
from tests.support.recording_upstream import RecordingUpstream
from tests.unit.gateway.harness import Client, running

FIELDS: tuple[Field, ...] = ((b"Host", b"gateway.localhost"), (b"X-Forwarded-For", b"198.51.100.7"))
FIRST, SECOND = ("127.0.0.1", "http"), ("127.0.0.2", "http")
BYTES = b"GET %b HTTP/1.1\r\nHost: gateway.localhost\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n"


def head(target: str = "/x", method: str = "GET", *more: Field) -> RequestHead:
    return RequestHead(method, target, (1, 1), (*FIELDS, *more))


def planner(*trusted: str) -> Planner:
    spec, route = GatewaySpec(trusted_peers=trusted), RouteSpec("/x", "x")
    clock = SystemClock(asyncio.sleep)
    known = [settings(spec, route, UpstreamPolicy(), clock, {}, lambda jwt: RemoteKeys(jwt, clock))]
    return Planner(RouteTable([route]), known, Trust.of(trusted), "msctl-test", spec)


def test_the_same_head_from_the_same_peer_has_the_same_plan() -> None:
    plans, one = planner(), head()
    assert plans.plan(one, FIRST) is plans.plan(one, FIRST)


def test_the_same_head_from_another_peer_has_a_plan_of_its_own() -> None:
    plans, one = planner("127.0.0.2"), head()
    for _ in range(2):
        assert plans.plan(one, FIRST).client_address == "127.0.0.1"
        assert plans.plan(one, SECOND).client_address == "198.51.100.7"


def test_the_same_head_over_another_scheme_has_a_plan_of_its_own() -> None:
    plans, one = planner(), head()
    for scheme in ("http", "https", "http"):
        plan = plans.plan(one, ("127.0.0.1", scheme))
        assert plan.scheme == scheme
        assert (b"X-Forwarded-Proto", scheme.encode()) in plan.forwarded


def test_a_plan_does_not_outlive_its_configuration() -> None:
    one = head()
    old = planner().plan(one, FIRST)
    assert planner("127.0.0.1").plan(one, FIRST) is not old
    assert planner("127.0.0.1").plan(one, FIRST).client_address == "198.51.100.7"


def test_fields_beyond_those_of_the_head_are_planned_for() -> None:
    plans, one = planner(), head()
    plans.plan(one, FIRST)
    assert (b"X", b"y") in plans.plan(one, FIRST, [(b"X", b"y")]).forwarded
    assert (b"X", b"y") not in plans.plan(one, FIRST).forwarded


PIECES = st.sampled_from(
    [
        "/",
        "/",
        ".",
        "..",
        "a",
        "1",
        "-",
        "~",
        "%2e",
        "%41",
        "%",
        "%00",
        "?",
        "#",
        "\\",
        ";",
        "=",
        " ",
        "\t",
        "\x7f",
        "é",
    ]
)


@given(st.lists(PIECES, max_size=8).map("".join))
@example("/..")
@example("/a/%2e")
@example("/a/./")
@example("/;\\..")
@example("/a.?#")
def test_a_plan_is_the_same_whatever_was_planned_before(rest: str) -> None:
    target = f"/x{rest}"

    def planned(plans: Planner, one: RequestHead) -> object:
        try:
            plan = plans.plan(one, FIRST)
        except ProblemError as error:
            return error.problem.status, error.problem.detail
        return plan.head.target, plan.target, plan.forwarded, plan.settings.route, plan.client_address

    first = head()
    warm = planner()
    warm.plan(first, FIRST)
    assert planned(warm, first.with_target(target)) == planned(planner(), head(target))


def test_heads_that_differ_in_their_target_share_what_does_not_depend_on_it() -> None:
    plans, heads = planner(), HeadReader(DEFAULT_LIMITS)
    made = [plans.plan(heads.read(BYTES % target), FIRST) for target in (b"/x", b"/x/1?q", b"/x/1.css")]
    assert [plan.head.target for plan in made] == ["/x", "/x/1?q", "/x/1.css"]
    assert all(plan.head.fields is made[0].head.fields for plan in made)
    assert made[1].target == Target("/x/1", "q")


async def test_two_clients_with_the_same_request_are_told_apart() -> None:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.2", 0))
    except OSError:
        pytest.skip("127.0.0.2 is no address of this machine")
    upstream = await RecordingUpstream().start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            streams = await asyncio.open_connection("127.0.0.1", gateway.port, local_addr=(address, 0))
            client = Client(*streams)
            gateway.clients.append(client)
            assert (await client.request("GET", "/x")).status == 200
    await upstream.stop()
    lines = upstream.received.split(b"\r\n")
    seen = [line.split(b": ")[1] for line in lines if line.lower().startswith(b"x-forwarded-for: ")]
    assert seen == [b"127.0.0.1", b"127.0.0.2", b"127.0.0.1"]

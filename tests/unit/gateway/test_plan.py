"""Plans are cached by everything that they depend on, so no client gets another client's plan."""

from __future__ import annotations

import asyncio
import socket

import pytest

from msctl.clock import SystemClock
from msctl.gateway.message.headers import Field, Trust
from msctl.gateway.request.plan import Planner
from msctl.gateway.routing.route_settings import settings
from msctl.gateway.routing.routes import RouteTable
from msctl.gateway.upstream.remote_keys import RemoteKeys
from msctl.model.project import GatewaySpec, RouteSpec, UpstreamPolicy
from tests.support.recording_upstream import RecordingUpstream
from tests.unit.gateway.harness import Client, running

HEAD: tuple[Field, ...] = ((b"Host", b"gateway.localhost"), (b"X-Forwarded-For", b"198.51.100.7"))
FIRST, SECOND = ("127.0.0.1", "http"), ("127.0.0.2", "http")


def planner(*trusted: str) -> Planner:
    spec, route = GatewaySpec(trusted_peers=trusted), RouteSpec("/x", "x")
    clock = SystemClock(asyncio.sleep)
    known = [settings(spec, route, UpstreamPolicy(), clock, {}, lambda jwt: RemoteKeys(jwt, clock))]
    return Planner(RouteTable([route]), known, Trust.of(trusted), "msctl-test", spec)


def test_the_same_head_from_the_same_peer_has_the_same_plan() -> None:
    plans = planner()
    first = plans.plan("GET", "/x", (1, 1), HEAD, FIRST)
    assert plans.plan("GET", "/x", (1, 1), HEAD, FIRST) is first


def test_the_same_head_from_another_peer_has_a_plan_of_its_own() -> None:
    plans = planner("127.0.0.2")
    for _ in range(2):
        assert plans.plan("GET", "/x", (1, 1), HEAD, FIRST).client_address == "127.0.0.1"
        assert plans.plan("GET", "/x", (1, 1), HEAD, SECOND).client_address == "198.51.100.7"


def test_the_same_head_over_another_scheme_has_a_plan_of_its_own() -> None:
    plans = planner()
    for scheme in ("http", "https", "http"):
        plan = plans.plan("GET", "/x", (1, 1), HEAD, ("127.0.0.1", scheme))
        assert plan.scheme == scheme
        assert (b"X-Forwarded-Proto", scheme.encode()) in plan.forwarded


@pytest.mark.parametrize(
    "other",
    [
        ("POST", "/x", (1, 1), HEAD),
        ("GET", "/x?q", (1, 1), HEAD),
        ("GET", "/x", (1, 0), HEAD),
        ("GET", "/x", (1, 1), (*HEAD, (b"X", b"y"))),
    ],
)
def test_another_head_has_a_plan_of_its_own(
    other: tuple[str, str, tuple[int, int], tuple[Field, ...]],
) -> None:
    plans = planner()
    first = plans.plan("GET", "/x", (1, 1), HEAD, FIRST)
    assert plans.plan(*other, FIRST) is not first
    assert plans.plan("GET", "/x", (1, 1), HEAD, FIRST) is first


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

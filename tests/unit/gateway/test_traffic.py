"""Weights, canaries, sticky clients and mirrors, through a running gateway."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from aiohttp import web

from msctl.gateway import mirror
from msctl.model.route_policies import (
    BasicAuthSpec,
    CanarySpec,
    ForwardAuthSpec,
    MirrorSpec,
    StickySpec,
)
from msctl.model.route_spec import RouteSpec
from msctl.model.upstream_policy import Balance, UpstreamPolicy
from tests.support.ports import reserved_port
from tests.unit.gateway.harness import HOSTED, KINDS, REMOTE, Harness, Reply, running
from tests.unit.gateway.test_basic_auth import HASHES


def named(name: str) -> web.Application:
    """An application that answers with its name and keeps the bodies that it got."""

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response(text=name)

    app = web.Application()
    bodies: list[bytes] = []
    app[BODIES] = bodies
    app.router.add_route("*", "/{path:.*}", answer)
    return app


BODIES = web.AppKey("bodies", list[bytes])


async def instances(gateway: Harness, service: str, count: int, kind: str = HOSTED) -> None:
    for number in range(1, count + 1):
        await gateway.serve(service, named(f"{service}-{number}"), kind, f"{service}-{number}")


async def counted(gateway: Harness, target: str, count: int, *fields: tuple[str, str]) -> Counter[bytes]:
    client = await gateway.client()
    return Counter([(await client.request("GET", target, fields)).body for _ in range(count)])


def cookie(reply: Reply) -> str:
    [line] = [line for line in reply.all("Set-Cookie") if line.startswith("tied=")]
    return line.split(";")[0]


@pytest.mark.parametrize("kind", KINDS)
async def test_weights_spread_requests_over_services(kind: str) -> None:
    route = RouteSpec("/", "web", weights={"web": 1, "next": 1, "off": 0})
    async with running(route) as gateway:
        await instances(gateway, "web", 1, kind)
        await instances(gateway, "next", 1, kind)
        counts = await counted(gateway, "/", 200)
        assert set(counts) == {b"web-1", b"next-1"}
        assert min(counts.values()) > 50
        gateway.registry.withdraw("next", "next-1", "is stopped")
        assert await counted(gateway, "/", 20) == {b"web-1": 20}
        assert {target.service for target in gateway.gateway.targets()} >= {"web"}


async def test_a_canary_is_asked_for_by_field_and_a_stopped_one_says_so() -> None:
    route = RouteSpec("/", "web", canary=CanarySpec("next", share=0.5, header="X-Canary"))
    async with running(route) as gateway:
        await instances(gateway, "web", 1)
        await instances(gateway, "next", 1)
        assert await counted(gateway, "/", 10, ("X-Canary", "always")) == {b"next-1": 10}
        assert await counted(gateway, "/", 10, ("X-Canary", "never")) == {b"web-1": 10}
        gateway.registry.withdraw("next", "next-1", "is stopped")
        assert await counted(gateway, "/", 20) == {b"web-1": 20}
        reply = await gateway.get("/", ("X-Canary", "always"))
        assert (reply.status, reply.json()["service"]) == (503, "next")


async def test_a_cookie_keeps_a_client_at_its_instance_and_service() -> None:
    sticky = UpstreamPolicy(sticky=StickySpec(cookie="tied"), balance=Balance.ROUND_ROBIN)
    route = RouteSpec("/", "web", weights={"web": 1, "next": 1}, policy=sticky)
    async with running(route) as gateway:
        await instances(gateway, "web", 3)
        await instances(gateway, "next", 3)
        first = await gateway.get("/")
        mine = cookie(first)
        again = [await gateway.get("/", ("Cookie", mine)) for _ in range(20)]
        assert {reply.body for reply in again} == {first.body}
        assert not any(reply.all("Set-Cookie") for reply in again)
        # A forged or old one is as none: another instance, and a cookie for it.
        forged = await gateway.get("/", ("Cookie", "tied=../../etc; tied=x"))
        assert forged.status == 200
        assert cookie(forged)
        service, name = first.body.decode().rsplit("-", 1)[0], first.body.decode()
        gateway.registry.withdraw(service, name, "is stopped")
        moved = await gateway.get("/", ("Cookie", mine))
        assert (moved.status, moved.body != first.body) == (200, True)
        assert cookie(moved) != mine


async def test_an_address_or_a_field_chooses_the_instance() -> None:
    by_user = UpstreamPolicy(sticky=StickySpec(header="X-User"))
    async with running(
        RouteSpec("/user", "web", policy=by_user),
        RouteSpec("/client", "web"),
        services={"web": UpstreamPolicy(sticky=StickySpec(client=True))},
    ) as gateway:
        await instances(gateway, "web", 4)
        assert len(await counted(gateway, "/client", 20)) == 1
        users = [await counted(gateway, "/user", 5, ("X-User", f"u{number}")) for number in range(12)]
        assert all(len(counts) == 1 for counts in users)
        assert len({next(iter(counts)) for counts in users}) > 1
        assert len(await counted(gateway, "/user", 40)) > 1  # without the field, any


async def test_a_mirror_gets_copies_and_never_changes_the_answer() -> None:
    route = RouteSpec("/", "web", mirror=MirrorSpec("copy", max_body=100))
    async with running(route) as gateway:
        await instances(gateway, "web", 1)
        copy = named("copy-1")
        await gateway.serve("copy", copy, REMOTE)
        for body in (b"", b"short", b"x" * 100):
            assert (await gateway.ask("POST", "/a?b", body=body)).body == b"web-1"
        assert (await gateway.ask("POST", "/a?b", body=b"x" * 101)).body == b"web-1"
        bodies = copy[BODIES]
        async with asyncio.timeout(60):
            while len(bodies) < 3:
                await asyncio.sleep(0.01)
        assert sorted(bodies) == [b"", b"short", b"x" * 100]
        assert (await gateway.get("/")).body == b"web-1"


async def test_a_mirror_that_is_down_or_hangs_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "MAX_COPIES", 5)
    hangs = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await hangs.wait()
        return web.Response()

    silent = web.Application()
    silent.router.add_get("/hang", hang)
    with reserved_port() as port:
        async with running(
            RouteSpec("/", "web", mirror=MirrorSpec("gone")),
            RouteSpec("/down", "web", mirror=MirrorSpec("down")),
            RouteSpec("/hang", "web", mirror=MirrorSpec("silent")),
        ) as gateway:
            await instances(gateway, "web", 1)
            gateway.announce("down", f"http://127.0.0.1:{port}")
            await gateway.serve("silent", silent, REMOTE)
            assert await counted(gateway, "/", 20) == {b"web-1": 20}
            assert await counted(gateway, "/down", 20) == {b"web-1": 20}
            assert await counted(gateway, "/hang", 20) == {b"web-1": 20}
            assert gateway.gateway._mirror.left_out > 0
            hangs.set()


async def test_explain_says_who_gets_a_request_and_what_it_needs() -> None:
    canary = CanarySpec("next", share=0.1, header="X-Canary")
    sticky = UpstreamPolicy(sticky=StickySpec(header="X-User"))
    guarded = RouteSpec(
        "/guarded",
        "web",
        basic_auth=BasicAuthSpec(env="USERS", realm="shop"),
        forward_auth=ForwardAuthSpec(path="/auth"),
        mirror=MirrorSpec("copy", share=0.5),
    )
    async with running(
        RouteSpec("/", "web", weights={"web": 3, "old": 1}, canary=canary, policy=sticky),
        guarded,
        environ={"USERS": f"ann:{HASHES[0]}"},
    ) as gateway:
        await instances(gateway, "web", 2)
        explain = gateway.gateway.explain
        text = " ".join((usual := explain("GET", "/")).steps)
        assert (usual.service, usual.status) == ("web", None)
        assert "web 0.75, old 0.25" in text
        assert "canary next gets a share of 0.1" in text
        assert "X-User chooses the instance" in text
        mine = {explain("GET", "/", {"X-User": "ann"}).instance for _ in range(20)}
        assert len(mine) == 1
        asking = explain("GET", "/", {"X-Canary": "always"})
        assert (asking.service, asking.status) == ("next", 503)
        assert "asks for the canary" in " ".join(asking.steps)
        assert "never" in " ".join(explain("GET", "/", {"X-Canary": "never"}).steps)
        text = " ".join(explain("GET", "/guarded").steps)
        for part in ('password of "shop"', "/auth is asked", "copy gets a copy"):
            assert part in text

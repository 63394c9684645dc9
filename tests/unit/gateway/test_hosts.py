"""The gateway on loopback: foreign hosts get 421, unsafe requests of foreign pages 403."""

from __future__ import annotations

import pytest
from aiohttp import web

from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import CorsSpec, RouteSpec
from tests.unit.gateway.harness import KINDS, Harness, Reply, running

both = pytest.mark.parametrize("kind", KINDS)
PAGE = ("Origin", "https://evil.test")
CROSS_SITE = ("Sec-Fetch-Site", "cross-site")


class Counter:
    def __init__(self) -> None:
        self.requests = 0

    async def handle(self, _: web.Request) -> web.Response:
        self.requests += 1
        return web.Response(text="ok")


async def serve(gateway: Harness, kind: str = "hosted") -> Counter:
    counter, app = Counter(), web.Application()
    app.router.add_route("*", "/{rest:.*}", counter.handle)
    await gateway.serve("x", app, kind)
    return counter


async def ask(gateway: Harness, host: str, *fields: tuple[str, str], method: str = "GET") -> Reply:
    client = await gateway.client()
    return await client.request(method, "/x", fields, host=host, body=b"{}" if method == "POST" else None)


@both
async def test_a_rebound_host_is_421_and_reaches_no_service(kind: str) -> None:
    async with running(RouteSpec("/x", "x"), any_host=False) as gateway:
        counter = await serve(gateway, kind)
        for method in ("GET", "POST"):
            reply = await ask(gateway, "evil.test:8080", method=method)
            assert (reply.status, reply.get("Content-Type")) == (421, "application/problem+json")
            assert reply.json()["key"] == "gateway.hosts"
        assert counter.requests == 0


@both
@pytest.mark.parametrize(
    "host", ["localhost:8080", "LOCALHOST", "localhost.", "x.localhost:8080", "127.0.0.1", "[::1]:8080"]
)
async def test_local_hosts_are_answered(kind: str, host: str) -> None:
    async with running(RouteSpec("/x", "x"), any_host=False) as gateway:
        await serve(gateway, kind)
        assert (await ask(gateway, host)).status == 200


async def test_one_client_s_plan_does_not_answer_another_host() -> None:
    async with running(RouteSpec("/x", "x"), any_host=False) as gateway:
        await serve(gateway)
        hosts = ("localhost", "evil.test", "localhost", "evil.test")
        assert [(await ask(gateway, host)).status for host in hosts] == [200, 421, 200, 421]


async def test_an_absolute_target_cannot_hide_a_foreign_host() -> None:
    async with running(RouteSpec("/x", "x"), any_host=False) as gateway:
        await serve(gateway)
        client = await gateway.client()
        assert (await client.request("GET", "http://evil.test/x", host="localhost")).status == 421


async def test_hosts_of_routes_are_answered_with_a_final_dot_too() -> None:
    routes = (RouteSpec("/x", "x", hosts=("shop.test",)), RouteSpec("/x", "x", hosts=("*.api.test",)))
    async with running(*routes, any_host=False) as gateway:
        await serve(gateway)
        for host in ("shop.test", "Shop.Test.:8080", "a.api.test"):
            assert (await ask(gateway, host)).status == 200, host
        assert (await ask(gateway, "other.test")).status == 421


async def test_configured_hosts_are_live() -> None:
    route = RouteSpec("/x", "x")
    async with running(route, any_host=False) as gateway:
        await serve(gateway)
        assert (await ask(gateway, "shop.test")).status == 421
        gateway.gateway.reconfigure(GatewaySpec(hosts=("shop.test",)), [route])
        assert (await ask(gateway, "shop.test")).status == 200
        assert (await ask(gateway, "localhost")).status == 200
        gateway.gateway.reconfigure(GatewaySpec(hosts=("*",)), [route])
        assert (await ask(gateway, "evil.test", PAGE, method="POST")).status == 200
        gateway.gateway.reconfigure(GatewaySpec(host="0.0.0.0"), [route])
        assert (await ask(gateway, "evil.test", PAGE, method="POST")).status == 200


async def test_readiness_is_answered_for_any_host() -> None:
    async with running(RouteSpec("/x", "x"), spec=GatewaySpec(hosts=("shop.test",))) as gateway:
        client = await gateway.client()
        assert (await client.request("GET", "/-/ready", host="10.1.2.3:8080")).status == 200


@both
@pytest.mark.parametrize("mark", [[PAGE], [CROSS_SITE], [("Origin", "null"), CROSS_SITE]])
async def test_a_foreign_page_s_post_is_403_and_reaches_no_service(
    kind: str, mark: list[tuple[str, str]]
) -> None:
    async with running(RouteSpec("/x", "x"), any_host=False) as gateway:
        counter = await serve(gateway, kind)
        reply = await ask(gateway, "localhost", *mark, method="POST")
        assert (reply.status, reply.json()["key"]) == (403, "gateway.hosts")
        assert counter.requests == 0
        assert (await ask(gateway, "localhost", *mark)).status == 200


async def test_local_pages_and_programs_may_post() -> None:
    async with running(RouteSpec("/x", "x"), any_host=False) as gateway:
        await serve(gateway)
        for fields in ([], [("Origin", "http://localhost:5173"), ("Sec-Fetch-Site", "same-site")]):
            assert (await ask(gateway, "localhost", *fields, method="POST")).status == 200


async def test_cors_of_the_route_allows_its_origins() -> None:
    routes = (
        RouteSpec("/x", "x", cors=CorsSpec(origins=("https://app.example",))),
        RouteSpec("/open", "x", cors=CorsSpec(origins=("*",))),
    )
    async with running(*routes, any_host=False) as gateway:
        await serve(gateway)
        allowed = await ask(
            gateway, "localhost", ("Origin", "https://app.example"), CROSS_SITE, method="POST"
        )
        assert allowed.status == 200
        assert (await ask(gateway, "localhost", PAGE, CROSS_SITE, method="POST")).status == 403
        client = await gateway.client()
        reply = await client.request("POST", "/open", [PAGE, CROSS_SITE], b"", host="localhost")
        assert reply.status == 200


async def test_a_foreign_page_opens_no_websocket() -> None:
    async with running(RouteSpec("/x", "x"), any_host=False) as gateway:
        counter = await serve(gateway)
        upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
        assert (await ask(gateway, "localhost", *upgrade, PAGE)).status == 403
        assert counter.requests == 0
        assert (await ask(gateway, "localhost", *upgrade, ("Origin", "http://localhost"))).status == 200


async def test_explain_names_the_key_of_a_refused_host() -> None:
    async with running(RouteSpec("/x", "x"), any_host=False) as gateway:
        await serve(gateway)
        explain = gateway.gateway.explain
        assert explain("GET", "/x").status is None
        refused = explain("GET", "/x", {"Host": "evil.test"})
        assert (refused.status, "hosts under [gateway]" in refused.steps[-1]) == (421, True)
        refused = explain("POST", "/x", {"Origin": "https://evil.test"})
        assert (refused.status, "hosts under [gateway]" in refused.steps[-1]) == (403, True)


async def test_the_joined_api_document_is_not_for_foreign_hosts() -> None:
    spec = GatewaySpec(openapi="/openapi.json")
    async with running(RouteSpec("/x", "x"), spec=spec, any_host=False) as gateway:
        for host, status in (("evil.test", 421), ("localhost", 200)):
            client = await gateway.client()
            assert (await client.request("GET", "/openapi.json", host=host)).status == status

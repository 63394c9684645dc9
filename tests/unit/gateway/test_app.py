"""The gateway forwards routed requests and explains the others."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from msctl.model.endpoint import Endpoint
from msctl.model.exchange import Exchange
from msctl.model.route_spec import RouteSpec
from tests.unit.gateway.harness import HOSTED, KINDS, running


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


USERS = b'[{"id":1,"name":"Alice"},{"id":2,"name":"Bob"}]\n'


def app() -> web.Application:
    async def users(request: web.Request) -> web.Response:
        return web.Response(body=USERS, content_type="application/json")

    async def fail(request: web.Request) -> web.Response:
        raise RuntimeError("the handler is broken")

    async def missing(request: web.Request) -> web.Response:
        raise web.HTTPGone(text="no more")

    async def upload(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for piece in request.content.iter_any():
            await response.write(piece)
        return response

    application = web.Application()
    application.router.add_get("/users", users)
    application.router.add_get("/users/fail", fail)
    application.router.add_get("/users/gone", missing)
    application.router.add_post("/users/upload", upload)
    return application


async def test_a_routed_request_is_answered_by_its_service(kind: str) -> None:
    async with running(RouteSpec("/users", "users")) as gateway:
        await gateway.serve("users", app(), kind)
        reply = await gateway.get("/users")
    assert (reply.status, reply.get("Content-Type"), reply.body) == (200, "application/json", USERS)


async def test_a_connection_is_kept_for_the_next_request(kind: str) -> None:
    async with running(RouteSpec("/users", "users")) as gateway:
        await gateway.serve("users", app(), kind)
        client = await gateway.client()
        for _ in range(3):
            assert (await client.request("GET", "/users")).body == USERS


async def test_a_body_streams_both_ways(kind: str) -> None:
    async with running(RouteSpec("/users", "users")) as gateway:
        await gateway.serve("users", app(), kind)
        client = await gateway.client()
        await client.send(
            b"POST /users/upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
        )
        assert (await client.head()).status == 200
        chunks = client.chunks()
        assert await anext(chunks) == b"first"
        await client.send(b"6\r\nsecond\r\n0\r\n\r\n")
        assert b"".join([piece async for piece in chunks]) == b"second"


async def test_an_error_response_of_the_application_is_passed_on(kind: str) -> None:
    async with running(RouteSpec("/users", "users")) as gateway:
        await gateway.serve("users", app(), kind)
        reply = await gateway.get("/users/gone")
    assert (reply.status, reply.body) == (410, b"no more")


async def test_a_handler_that_raises_fails_one_request(kind: str) -> None:
    async with running(RouteSpec("/users", "users")) as gateway:
        await gateway.serve("users", app(), kind)
        reply = await gateway.get("/users/fail")
        assert (reply.status, reply.body[:25]) == (500, b"500 Internal Server Error")
        if kind == HOSTED:
            assert "the handler is broken" in "".join(line.text for line in gateway.logs.tail())
        assert (await gateway.get("/users")).status == 200


@pytest.mark.parametrize("returns", [True, False])
async def test_a_hosted_service_without_a_response_is_a_500(
    caplog: pytest.LogCaptureFixture, *, returns: bool
) -> None:
    async def handle(exchange: Exchange) -> None:
        if not returns:
            raise ZeroDivisionError("the adapter is broken")

    async with running(RouteSpec("/users", "users")) as gateway:
        gateway.registry.announce(Endpoint("users", "users-1", handler=handle))
        reply = await gateway.get("/users")
    assert (reply.status, reply.json()["service"]) == (500, "users")
    assert returns or "the adapter is broken" in caplog.text


async def test_a_stopped_service_is_503_with_the_reason_and_others_run(kind: str) -> None:
    async with running(RouteSpec("/users", "users"), RouteSpec("/orders", "orders")) as gateway:
        await gateway.serve("users", app(), kind)
        await gateway.serve("orders", app(), kind)
        gateway.registry.withdraw("orders", "orders-1", "is stopped")
        reply = await gateway.get("/orders")
        assert reply.status == 503
        assert reply.get("Retry-After") is not None
        assert reply.json()["detail"] == "The service orders is stopped."
        assert (await gateway.get("/users")).status == 200


async def test_an_unrouted_path_is_404_with_the_nearest_routes(kind: str) -> None:
    async with running(RouteSpec("/users", "users"), RouteSpec("/hello", "hello")) as gateway:
        await gateway.serve("users", app(), kind)
        reply = await gateway.get("/user")
    assert (reply.status, reply.get("Content-Type")) == (404, "application/problem+json")
    assert reply.json()["nearest_routes"][0] == "/users"
    assert "/users" in reply.json()["detail"]


async def test_a_withdrawn_instance_comes_back(kind: str) -> None:
    async with running(RouteSpec("/users", "users")) as gateway:
        assert (await gateway.get("/users")).status == 503
        await gateway.serve("users", app(), kind)
        assert (await gateway.get("/users")).status == 200


async def test_requests_run_side_by_side(kind: str) -> None:
    async with running(RouteSpec("/users", "users")) as gateway:
        await gateway.serve("users", app(), kind)
        replies = await asyncio.gather(*(gateway.get("/users") for _ in range(20)))
    assert {reply.body for reply in replies} == {USERS}

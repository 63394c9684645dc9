"""Requests of a connection run in order and in isolation, through the gateway to a hosted application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest
from aiohttp import web

from msctl.http.server import HttpServer
from msctl.model.exchange import Exchange
from msctl.model.route_spec import RouteSpec
from tests.support.waiting import until
from tests.unit.gateway.harness import HOSTED, PATIENCE, Client, Harness, TruncatedError, running

GET = b"GET %b HTTP/1.1\r\nHost: gateway.localhost\r\n\r\n"
colour: ContextVar[str] = ContextVar("colour", default="none")


class Service:
    """A hosted application that responds at once or on demand."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.calls: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.requests: list[web.Request] = []
        self.app = web.Application()
        self.app.router.add_route("*", "/{name:.*}", self.answer)

    async def answer(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.calls.append(name)
        self.requests.append(request)
        text = f"{name} {colour.get()}"
        task = asyncio.current_task()
        assert task is not None
        if name == "paint":
            colour.set("red")
        if name == "keep":
            self.tasks.append(task)
        if request.can_read_body:
            text += f" {await request.text()}"
        if name == "wait":
            self.entered.set()
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            assert asyncio.current_task() is task
        if name == "flood":
            self.entered.set()
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                while True:
                    await response.write(bytes(2**20))
            except (asyncio.CancelledError, ConnectionError):
                self.cancelled.set()
                raise
        return web.Response(text=text)


@pytest.fixture
async def service() -> Service:
    return Service()


@pytest.fixture
async def harness(service: Service) -> AsyncIterator[Harness]:
    async with running(RouteSpec("/", "service")) as harness:
        await harness.serve("service", service.app, HOSTED)
        yield harness


async def under_way(harness: Harness, service: Service, target: bytes) -> Client:
    """A client whose request is being handled."""
    client = await harness.client()
    await client.send(GET % target)
    await until(service.entered.is_set)
    return client


async def replies(client: Client, count: int) -> list[str]:
    return [(await client.reply()).body.decode() for _ in range(count)]


async def test_requests_received_meanwhile_are_answered_in_order(harness: Harness, service: Service) -> None:
    client = await under_way(harness, service, b"/wait")
    await client.send(GET % b"/second" + GET % b"/third")
    assert service.calls == ["wait"]
    service.gate.set()
    assert await replies(client, 3) == ["wait none", "second none", "third none"]
    await client.send(GET % b"/fourth")
    assert await replies(client, 1) == ["fourth none"]


async def test_requests_in_one_packet_are_answered_in_their_order(harness: Harness) -> None:
    client = await harness.client()
    await client.send(b"".join(GET % b"/%d" % number for number in range(100)))
    assert await replies(client, 100) == [f"{number} none" for number in range(100)]


async def test_a_request_in_pieces_is_answered(harness: Harness) -> None:
    client = await harness.client()
    for byte in GET % b"/pieces":
        await client.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert await replies(client, 1) == ["pieces none"]


async def test_a_body_that_comes_with_its_head_or_later_is_read(harness: Harness, service: Service) -> None:
    client = await harness.client()
    head = b"POST /body HTTP/1.1\r\nHost: gateway.localhost\r\nContent-Length: 4\r\n\r\n"
    await client.send(head + b"once")
    assert await replies(client, 1) == ["body none once"]
    await client.send(head + b"tw")
    await until(lambda: len(service.calls) == 2)
    await client.send(b"ce")
    assert await replies(client, 1) == ["body none twce"]
    with pytest.raises(web.PayloadAccessError):
        await service.requests[0].content.read()


async def test_context_variables_do_not_leak_to_the_next_request(harness: Harness) -> None:
    client = await harness.client()
    await client.send(GET % b"/paint")
    assert await replies(client, 1) == ["paint none"]
    await client.send(GET % b"/look")
    assert await replies(client, 1) == ["look none"]
    other = await harness.client()
    await other.send(GET % b"/look")
    assert await replies(other, 1) == ["look none"]


async def test_a_kept_task_of_a_finished_request_cannot_cancel_another(
    harness: Harness, service: Service
) -> None:
    client = await harness.client()
    await client.send(GET % b"/keep")
    assert await replies(client, 1) == ["keep none"]
    await client.send(GET % b"/wait")
    await until(service.entered.is_set)
    service.tasks[0].cancel()
    service.gate.set()
    assert await replies(client, 1) == ["wait none"]


async def test_a_client_that_leaves_while_a_request_waits_disturbs_nobody(
    harness: Harness, service: Service
) -> None:
    client = await under_way(harness, service, b"/wait")
    client.reset()
    assert (await harness.get("/next")).body == b"next none"
    service.gate.set()


async def test_connection_close_closes_after_the_response(harness: Harness, service: Service) -> None:
    client = await under_way(harness, service, b"/wait")
    harness.server.close_idle()
    service.gate.set()
    assert await replies(client, 1) == ["wait none"]
    assert await client.closed()


async def test_a_shutdown_waits_for_the_response(harness: Harness, service: Service) -> None:
    client = await under_way(harness, service, b"/wait")
    shutdown = asyncio.ensure_future(harness.server.shutdown(PATIENCE))
    await asyncio.sleep(0)
    service.gate.set()
    assert await replies(client, 1) == ["wait none"]
    async with asyncio.timeout(PATIENCE):
        await shutdown


async def test_a_shutdown_cancels_a_request_after_its_timeout(harness: Harness, service: Service) -> None:
    client = await under_way(harness, service, b"/wait")
    async with asyncio.timeout(PATIENCE):
        await harness.server.shutdown(0.01)
    await until(service.cancelled.is_set)
    with pytest.raises((TruncatedError, ConnectionError)):
        await client.reply()


async def test_a_shutdown_ends_a_response_the_client_does_not_read(
    harness: Harness, service: Service
) -> None:
    await under_way(harness, service, b"/flood")
    async with asyncio.timeout(PATIENCE):
        await harness.server.shutdown(0.01)
    await until(service.cancelled.is_set)


async def test_a_response_that_cannot_be_sent_is_a_500_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handle(exchange: Exchange) -> None:
        path = exchange.head.target
        exchange.respond(200, b"OK", [(b"X-Path", b"a\r\nb" if path == "/bad" else b"a")], path.encode())

    loop = asyncio.get_running_loop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    server = HttpServer(handle)
    listener = await loop.create_server(server, "127.0.0.1", 0)
    client, other = [
        Client(*await asyncio.open_connection(*listener.sockets[0].getsockname())) for _ in range(2)
    ]
    try:
        await client.send(GET % b"/bad")
        assert (await client.reply()).status == 500
        assert await client.closed()
        assert (await other.request("GET", "/good")).body == b"/good"
    finally:
        for each in (client, other):
            each.close()
        listener.close()
        await server.shutdown(1)
    assert "line end" in caplog.text
    assert not errors


async def test_an_idle_connection_is_closed_after_the_keep_alive_timeout(service: Service) -> None:
    async with running(RouteSpec("/", "service"), keep_alive=0.05) as harness:
        await harness.serve("service", service.app, HOSTED)
        client = await harness.client()
        await client.send(GET % b"/first")
        assert await replies(client, 1) == ["first none"]
        assert await client.closed()


async def test_a_waiting_request_is_not_idle_until_it_is_answered(service: Service) -> None:
    async with running(RouteSpec("/", "service"), keep_alive=0.1) as harness:
        await harness.serve("service", service.app, HOSTED)
        client = await harness.client()
        await client.send(GET % b"/wait")
        await until(service.entered.is_set)
        idle = await harness.client()
        assert await idle.closed()
        service.gate.set()
        assert await replies(client, 1) == ["wait none"]
        assert await client.closed()

"""Clients of the gateway that leave at any point leave nothing behind, whatever kind of service it is."""

from __future__ import annotations

import asyncio
import os
import random

import psutil
import pytest
from aiohttp import web

from msctl.model.route_spec import RouteSpec
from tests.support.crowd import crowd, left_behind
from tests.support.long import Record
from tests.unit.gateway.harness import KINDS, PATIENCE, Harness, running

MIB = 1024 * 1024
HOST = b"Host: gateway.localhost\r\n"
REQUESTS = [
    b"GET /x/get HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /x/slow HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /x/stream HTTP/1.1\r\n" + HOST + b"\r\n",
    b"POST /x/read HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n" + b"a" * 100000,
    b"POST /x/read HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"1\r\na\r\n" * 9
    + b"0\r\n\r\n",
    b"POST /x/read HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\nabcd",
    b"GET /x/ws HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x81\x82\0\0\0\0hi",
    b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n",
]


async def get(request: web.Request) -> web.StreamResponse:
    return web.Response(text="Hello")


async def slow(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(0.01)
    return web.Response(text="Hello")


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(20):
        await response.write(b"a" * 65536)
    return response


async def read(request: web.Request) -> web.StreamResponse:
    return web.Response(text=str(len(await request.read())))


async def ws(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def until_idle(gateway: Harness) -> None:
    async with asyncio.timeout(PATIENCE):
        while gateway.server.connections:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", KINDS)
async def test_clients_that_leave_at_any_point_leave_nothing_behind(
    kind: str, count: int, record: Record
) -> None:
    source = random.Random(count)
    memory = psutil.Process(os.getpid()).memory_info
    app = web.Application()
    app.router.add_routes([web.get(f"/x/{handler.__name__}", handler) for handler in (get, slow, stream, ws)])
    app.router.add_post("/x/read", read)
    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", app, kind)
        await crowd(gateway.port, REQUESTS, count // 2, source)
        await until_idle(gateway)
        before, used = left_behind("msctl.http", "msctl.gateway.upstream"), memory().rss
        await crowd(gateway.port, REQUESTS, count // 2, source)
        await until_idle(gateway)
        after, grown = left_behind("msctl.http", "msctl.gateway.upstream"), (memory().rss - used) / MIB
        reply = await gateway.get("/x/get")

    record("memory, MiB", grown)
    assert reply.status == 200
    # Pooled connections to the service come and go: what counts is that it does not grow with the clients.
    assert all(now - then < 100 for now, then in zip(after, before, strict=True)), (before, after)
    assert grown < 16

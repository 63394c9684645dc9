"""The gateway in somebody's own aiohttp server: the same requests and responses as behind ours."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from yarl import URL

from msctl.errors import ConfigError
from msctl.gateway import application

Seen = list[tuple[str, dict[str, str], bytes]]


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def service(seen: Seen) -> web.Application:
    async def record(request: web.Request) -> web.StreamResponse:
        seen.append((request.raw_path, dict(request.headers), await request.read()))
        response = web.Response(body=b"<ok>", headers={"X-Own": "1"})
        response.headers.add("Set-Cookie", "a=1")
        response.headers.add("Set-Cookie", "b=2")
        return response

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for piece in request.content.iter_any():
            await response.write(piece)
        return response

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def echo(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    app = web.Application(client_max_size=0)
    app.router.add_post("/users/stream", stream)
    app.router.add_get("/users/cut", cut)
    app.router.add_get("/users/ws", echo)
    app.router.add_route("*", "/users{rest:.*}", record)
    return app


@asynccontextmanager
async def mounted(seen: Seen) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    async with (
        served(service(seen)) as upstream,
        served(application({"users": upstream})) as base,
        aiohttp.ClientSession() as session,
    ):
        yield session, base


async def test_a_request_is_forwarded_with_the_gateways_fields() -> None:
    seen: Seen = []
    async with (
        mounted(seen) as (session, base),
        session.post(URL(f"{base}/users/a%2Fb?x=1", encoded=True), data=b"body") as answer,
    ):
        assert (answer.status, await answer.read()) == (200, b"<ok>")
        assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert answer.headers["X-Own"] == "1"
        assert "X-Request-Id" in answer.headers
    ((path, headers, body),) = seen
    assert (path, body) == ("/users/a%2Fb?x=1", b"body")
    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert headers["X-Forwarded-Host"].startswith("127.0.0.1:")
    assert headers["Via"].startswith("1.1 msctl")


async def test_a_body_streams_both_ways() -> None:
    more = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await more.wait()
        yield b"x" * 2_000_000

    async with mounted([]) as (session, base), session.post(f"{base}/users/stream", data=body()) as answer:
        assert await answer.content.readexactly(5) == b"first"
        more.set()
        assert len(await answer.read()) == 2_000_000


async def test_a_body_that_the_server_decompressed_is_not_said_to_be_compressed() -> None:
    seen: Seen = []
    async with mounted(seen) as (session, base):
        headers = {"Content-Encoding": "gzip"}
        async with session.post(
            f"{base}/users", data=gzip.compress(b"plain" * 100), headers=headers
        ) as answer:
            assert answer.status == 200
    ((_, sent, body),) = seen
    assert body == b"plain" * 100
    assert "Content-Encoding" not in sent


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_unknown_path_is_a_404_with_the_nearest_routes(method: str) -> None:
    async with mounted([]) as (session, base), session.request(method, f"{base}/user") as answer:
        assert (answer.status, answer.content_type) == (404, "application/problem+json")
        if method == "GET":
            assert (await answer.json())["nearest_routes"] == ["/users"]


async def test_a_truncated_response_is_no_complete_one() -> None:
    async with mounted([]) as (session, base):
        with pytest.raises(aiohttp.ClientError):
            async with session.get(f"{base}/users/cut") as answer:
                await answer.read()


async def test_a_truncated_response_is_no_complete_one_for_http_1_0() -> None:
    """Its body ends with the connection: an ordinary end would make it look complete."""
    async with mounted([]) as (_, base):
        url = URL(base)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"GET /users/cut HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            while await reader.read(65536):
                pass
        writer.close()


async def test_websockets_pass() -> None:
    async with mounted([]) as (session, base), session.ws_connect(f"{base}/users/ws") as socket:
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
        await socket.close(code=4001)
        assert (await socket.receive()).type is WSMsgType.CLOSED


def test_an_upstream_that_is_no_http_url_is_refused() -> None:
    with pytest.raises(ConfigError):
        application({"users": "localhost:8081"})

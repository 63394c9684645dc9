"""A hosted aiohttp application: who its client is, and what it finishes when it drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from msctl.hosting.aiohttp_app import AiohttpApp
from msctl.hosting.hosted_app import HostedApp
from msctl.hosting.imported_app import import_app
from msctl.hosting.modules import Loader
from msctl.http.server import HttpServer
from msctl.model.service_context import ServiceContext
from msctl.model.service_spec import ServiceSpec
from msctl.telemetry.logs.hub import LogHub
from tests.support.clock import FakeClock, settle

SOURCE = """
import asyncio
from aiohttp import web
entered, release, served = asyncio.Event(), asyncio.Event(), []
async def slow(request):
    served.append(request.path)
    entered.set()
    await release.wait()
    return web.Response(text="done")
async def socket(request):
    response = web.WebSocketResponse()
    await response.prepare(request)
    async for message in response:
        await response.send_str(message.data)
    served.append(response.close_code)
    return response
async def who(request):
    return web.Response(text=f"{request.scheme} {request.remote}")
def create_app():
    app = web.Application()
    app.router.add_get("/who", who)
    app.router.add_get("/socket", socket)
    app.router.add_get("/{name}", slow)
    return app
"""


class Hosted:
    """An application that is served on a socket, and its module."""

    def __init__(self, app: HostedApp, module: object, port: int) -> None:
        self.app = app
        self.entered: asyncio.Event = module.entered  # type: ignore[attr-defined]  # as written above
        self.release: asyncio.Event = module.release  # type: ignore[attr-defined]  # as above
        self.served: list[object] = module.served  # type: ignore[attr-defined]  # as above
        self.port = port

    async def get(self, path: str) -> tuple[int, str | None]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
        ):
            return answer.status, answer.headers.get("Retry-After")


@asynccontextmanager
async def hosted(
    tmp_path: Path, clock: FakeClock, env: Mapping[str, str] | None = None
) -> AsyncIterator[Hosted]:
    (tmp_path / "draining_app.py").write_text(SOURCE)
    loader = Loader(tmp_path)
    context = ServiceContext(
        name="slow", instance="slow-1", host="127.0.0.1", port=None, amqp_url="amqp://x/", env=env or {}
    )
    app = await import_app(
        "draining_app:create_app",
        ServiceSpec("slow"),
        context,
        loader=loader,
        logs=LogHub(clock),
        clock=clock,
    )
    await app.startup()
    import draining_app  # type: ignore[import-not-found]  # written above

    server = HttpServer(app.handle)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield Hosted(app, draining_app, listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        await server.shutdown(1)
        await app.cleanup()
        loader.close()


@pytest.mark.parametrize(
    ("trusted", "fields", "told"),
    [
        (None, {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.9"}, "https 192.0.2.9"),
        (None, {"X-Forwarded-Proto": "https"}, "https 127.0.0.1"),
        (None, {"X-Forwarded-Proto": "ftp", "X-Forwarded-For": "192.0.2.9"}, "http 192.0.2.9"),
        (None, {}, "http 127.0.0.1"),
        ("10.0.0.1", {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.9"}, "http 127.0.0.1"),
    ],
)
async def test_a_trusted_peer_tells_the_scheme_and_the_client(
    tmp_path: Path, trusted: str | None, fields: dict[str, str], told: str
) -> None:
    env = {} if trusted is None else {"FORWARDED_ALLOW_IPS": trusted}
    async with (
        hosted(tmp_path, FakeClock(), env) as one,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{one.port}/who", headers=fields) as answer,
    ):
        assert await answer.text() == told


async def test_a_request_that_comes_while_it_drains_is_refused(tmp_path: Path) -> None:
    async with hosted(tmp_path, FakeClock()) as one:
        first = asyncio.create_task(one.get("/first"))
        await one.entered.wait()
        draining = asyncio.create_task(one.app.drain(10))
        await settle()
        one.release.set()  # a second request would be served at once
        assert await one.get("/second") == (503, "1")
        assert await first == (200, None)
        await draining
        assert one.served == ["/first"]


@pytest.mark.parametrize("timeout", [2.0, 30.0])
async def test_what_is_under_way_has_the_whole_drain_time_and_no_more(tmp_path: Path, timeout: float) -> None:
    clock = FakeClock()
    async with hosted(tmp_path, clock) as one:
        request = asyncio.create_task(one.get("/first"))
        await one.entered.wait()
        draining = asyncio.create_task(one.app.drain(timeout))
        await settle()
        await clock.advance(timeout - 0.1)
        assert not request.done()
        await clock.advance(0.1)
        async with asyncio.timeout(60):
            assert (await request)[0] == 503
        await draining


async def test_a_drain_with_nothing_under_way_ends_at_once(tmp_path: Path) -> None:
    async with hosted(tmp_path, FakeClock()) as one:
        one.release.set()
        await one.app.drain(60)
        assert (await one.get("/late"))[0] == 503
        assert one.served == []


async def test_a_websocket_is_closed_with_1001_when_its_service_stops(tmp_path: Path) -> None:
    async with hosted(tmp_path, FakeClock()) as one:
        url = f"http://127.0.0.1:{one.port}/socket"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
            draining = asyncio.create_task(one.app.drain(10))
            await socket.receive(timeout=10)
            assert socket.close_code == 1001
            await draining
        assert one.served == [1001]


@asynccontextmanager
async def listening(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    *on_prepare: Callable[[web.Request, web.StreamResponse], Awaitable[None]],
) -> AsyncIterator[int]:
    """Serve GET / with `handler` on a port."""
    application = web.Application()
    application.on_response_prepare.extend(on_prepare)
    application.router.add_get("/", handler)
    clock = FakeClock()
    context = ServiceContext(
        name="api", instance="api-1", host="127.0.0.1", port=None, amqp_url="amqp://x/", env={}
    )
    app = AiohttpApp(application, context, logs=LogHub(clock), clock=clock)
    await app.startup()
    server = HttpServer(app.handle)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    yield listener.sockets[0].getsockname()[1]
    listener.close()
    await app.cleanup()
    await server.shutdown(1.0)


async def answers_to_two(port: int, fields: bytes = b"") -> bytes:
    """Return all that a connection answers to a request with `fields` and another one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % fields)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(60):
        answers = await reader.read()
    writer.close()
    return answers


@pytest.mark.parametrize("status", [204, 304])
async def test_body_of_a_status_that_has_none_is_left_out(status: int) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=b"not to be sent")

    async with listening(handler) as port:
        answers = await answers_to_two(port)
    assert answers.count(b"HTTP/1.1 %d " % status) == 2, "the connection stays in use"
    assert b"not to be sent" not in answers
    assert b"Content-Length" not in answers


async def test_a_client_that_waits_for_100_gets_it_once() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async with listening(handler) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n"
        writer.write(head + b"Expect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("status", [99, 100, 101, 103, 1000])
async def test_a_status_that_ends_no_response_is_an_error_of_the_handler(status: int, prepared: bool) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if not prepared:
            return web.Response(status=status, reason="Odd")
        response = web.StreamResponse(status=status, reason="Odd")
        await response.prepare(request)
        return response

    async with listening(handler) as port:
        answers = await answers_to_two(port)
    assert answers.count(b"HTTP/1.1 500 ") == answers.count(b"HTTP/1.1 ") == 2


async def test_a_plain_response_with_101_switches_only_where_the_client_asked_for_it() -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=101)

    async with listening(handler) as port:
        answers = await answers_to_two(port, b"Connection: Upgrade\r\nUpgrade: raw\r\n")
    assert answers.startswith(b"HTTP/1.1 101 ")
    assert b"Upgrade: raw\r\n" in answers
    assert b"Content-Length" not in answers
    assert answers.count(b"HTTP/1.1 ") == 1, "what follows is no request"


@pytest.mark.parametrize("broken", [False, True])
async def test_failure_of_a_handler_has_the_fields_that_every_response_gets(broken: bool) -> None:
    """Such as those for CORS, without which a page is not told of the failure."""

    async def handler(_request: web.Request) -> web.Response:
        raise ValueError("no")

    async def allow(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Access-Control-Allow-Origin"] = "*"
        if broken:
            raise ValueError("no again")

    async with listening(handler, allow) as port:
        answers = await answers_to_two(port)
    assert answers.count(b"HTTP/1.1 500 ") == 2
    assert answers.count(b"Access-Control-Allow-Origin: *") == (0 if broken else 2)

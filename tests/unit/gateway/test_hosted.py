"""Hosted applications: every kind of aiohttp response works, and none bypasses the gateway."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web, web_fileresponse

from msctl.model.endpoint import Endpoint
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import HeaderEdit, RouteSpec
from tests.support.hosted import hosted
from tests.unit.gateway.harness import HOSTED, KINDS, Harness, Reply, TruncatedError, running

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def ask(handler: Handler, *fields: tuple[str, str], kind: str = HOSTED, method: str = "GET") -> Reply:
    app = web.Application()
    app.router.add_route("*", "/x", handler)
    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", app, kind)
        return await gateway.ask(method, "/x", *fields)


def comparable(reply: Reply) -> tuple[int, str, list[tuple[str, str]], bytes]:
    """A reply without what differs from one request to the next."""
    fields = [(name.lower(), value) for name, value in reply.fields if name not in ("Date", "X-Request-Id")]
    return reply.status, reply.reason, sorted(fields), reply.body


def answers() -> dict[str, Callable[[], web.StreamResponse]]:
    def cookie() -> web.Response:
        response = web.Response(text="ok")
        response.set_cookie("a", "1")
        return response

    def compressed() -> web.Response:
        response = web.Response(text="ok" * 500)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    def chunked() -> web.Response:
        response = web.Response(text="ok")
        response.enable_chunked_encoding()
        return response

    def closing() -> web.Response:
        response = web.Response(text="ok")
        response.force_close()
        return response

    return {
        "text": lambda: web.Response(text="ök"),
        "bytes": lambda: web.Response(body=b"\x00\xff"),
        "nothing": web.Response,
        "large": lambda: web.Response(body=b"x" * 200_000),
        "json": lambda: web.json_response({"a": 1}, status=201, reason="Made it"),
        "own fields": lambda: web.Response(
            text="ok", headers={"X-A": "caf\u00e9", "Server": "mine", "Vary": "X"}
        ),
        "etag": lambda: web.Response(text="ok", headers={"ETag": '"1"', "Cache-Control": "no-cache"}),
        "own length": lambda: web.Response(body=b"ok", headers={"Content-Length": "2"}),
        "not modified": lambda: web.Response(status=304, headers={"ETag": '"1"'}),
        "no content": lambda: web.Response(status=204),
        "cookie": cookie,
        "compressed": compressed,
        "chunked": chunked,
        "closing": closing,
        "stream": lambda: web.StreamResponse(headers={"Content-Length": "0"}),
    }


@pytest.mark.parametrize("answer", answers())
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_response_is_the_same_hosted_or_remote(answer: str, method: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return answers()[answer]()

    replies = [comparable(await ask(handler, kind=kind, method=method)) for kind in KINDS]
    assert replies[0] == replies[1]


@pytest.mark.parametrize(
    "headers", [{"X-A": "1\r\nX-Evil: 2"}, {"Vary": "1\nX-Evil: 2"}, {"ETag": "\x00"}, {"X-A": "\x00"}]
)
async def test_a_field_cannot_smuggle_another(headers: dict[str, str]) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="ok", headers=headers)

    reply = await ask(handler)
    assert reply.status == 500
    assert reply.get("X-Evil") is None


async def test_signals_of_the_application_still_see_the_response() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Signed"] = "yes"
        response.headers["Keep-Alive"] = "timeout=5"

    app = web.Application()
    app.router.add_get("/x", handler)
    app.on_response_prepare.append(sign)
    route = RouteSpec("/x", "x", response_headers=HeaderEdit(set={"X-Edited": "yes"}))
    async with running(route) as gateway:
        await gateway.serve("x", app, HOSTED)
        reply = await gateway.get("/x")
    assert (reply.get("X-Signed"), reply.get("X-Edited"), reply.get("Keep-Alive")) == ("yes", "yes", None)


async def test_a_file_can_be_served() -> None:
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        Path(file.name).write_bytes(b"from a file" * 1000)

        async def handler(request: web.Request) -> web.StreamResponse:
            return web.FileResponse(file.name)

        app = web.Application()
        app.router.add_get("/x", handler)
        async with running(RouteSpec("/x", "x")) as gateway:
            await gateway.serve("x", app, HOSTED)
            client = await gateway.client()
            for _ in range(2):  # what follows a file on its connection is the next answer, not the file again
                assert (await client.request("GET", "/x")).body == b"from a file" * 1000
            part = await client.request("GET", "/x", [("Range", "bytes=5-8")])
            assert (part.status, part.body) == (206, b"a fi")
        # aiohttp closes the file in a thread and waits for nobody.
        while web_fileresponse._CLOSE_FUTURES:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("result", [None, "text", 7])
async def test_a_handler_without_a_response_is_500(result: object) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return result  # type: ignore[return-value] # that is the point

    assert (await ask(handler)).status == 500


async def test_a_response_cannot_be_sent_twice() -> None:
    kept = web.StreamResponse()

    async def handler(request: web.Request) -> web.StreamResponse:
        if not kept.prepared:
            await kept.prepare(request)
            await kept.write_eof()
        return kept

    app = web.Application()
    app.router.add_get("/x", handler)
    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", app, HOSTED)
        assert (await gateway.get("/x")).status == 200
        assert (await gateway.get("/x")).status == 500


READS: dict[str, Callable[[web.Request], Awaitable[bytes]]] = {}


def reads(read: Callable[[web.Request], Awaitable[bytes]]) -> Callable[[web.Request], Awaitable[bytes]]:
    READS[read.__name__] = read
    return read


@reads
async def whole(request: web.Request) -> bytes:
    return await request.read()


@reads
async def content(request: web.Request) -> bytes:
    return await request.content.read()


@reads
async def pieces(request: web.Request) -> bytes:
    return b"".join([piece async for piece in request.content.iter_any()])


@reads
async def by_size(request: web.Request) -> bytes:
    return b"".join([piece async for piece in request.content.iter_chunked(7)])


@reads
async def by_chunk(request: web.Request) -> bytes:
    return b"".join([piece async for piece, _ in request.content.iter_chunks()])


@reads
async def by_line(request: web.Request) -> bytes:
    return b"".join([line async for line in request.content])


@reads
async def exactly(request: web.Request) -> bytes:
    return (
        await request.content.readexactly(5)
        + await request.content.readuntil(b"\n")
        + await request.content.read()
    )


@pytest.mark.parametrize("way", READS)
async def test_a_chunked_body_can_be_read_every_way_and_is_limited_every_way(way: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=await READS[way](request))

    async def post(gateway: Harness, size: int) -> Reply:
        body = (b"some line\n" * size)[:size]
        data = b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
        client = await gateway.client()
        return await client.request("POST", "/x", [("Transfer-Encoding", "chunked")], data)

    app = web.Application()
    app.router.add_post("/x", handler)
    async with running(RouteSpec("/x", "x"), spec=GatewaySpec(max_body=1000)) as gateway:
        await gateway.serve("x", app, HOSTED)
        assert (await post(gateway, 900)).body == (b"some line\n" * 900)[:900]
        assert (await post(gateway, 1100)).status == 413


async def test_the_application_s_own_limit_holds() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app = web.Application(client_max_size=10)
    app.router.add_post("/x", handler)
    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", app, HOSTED)
        assert (await gateway.ask("POST", "/x", body=b"x" * 10)).status == 200
        assert (await gateway.ask("POST", "/x", body=b"x" * 11)).status == 413


async def test_a_stopped_hosted_service_closes_its_connections() -> None:
    started = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError("never reached")

    app = web.Application()
    app.router.add_get("/x", handler)
    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", app, HOSTED)
        client = await gateway.client()
        await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()
        gateway.registry.withdraw("x", "x-1", "is stopped")
        assert (await gateway.get("/x")).status == 503
        client.reset()


class EndOfWorld(BaseException):
    """What no `except Exception` catches."""


async def awaits_cancelled(request: web.Request) -> web.StreamResponse:
    gone = asyncio.get_running_loop().create_future()
    gone.cancel()
    await gone
    raise AssertionError("never reached")


async def ends_the_world(request: web.Request) -> web.StreamResponse:
    raise EndOfWorld


async def fails_afterwards(request: web.Request) -> web.StreamResponse:
    response = web.Response(text="done")
    await response.prepare(request)
    await response.write_eof()
    raise RuntimeError("too late")


@pytest.mark.parametrize(
    ("handler", "status"), [(awaits_cancelled, 500), (ends_the_world, 500), (fails_afterwards, 200)]
)
async def test_whatever_a_handler_raises_is_its_own_failure(
    handler: Handler, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = web.Application()
    app.router.add_get("/x", handler)
    async with running(RouteSpec("/x", "x"), spec=GatewaySpec(breaker_failures=1)) as gateway:
        await gateway.serve("x", app, HOSTED)
        client = await gateway.client()
        for _ in range(2):  # on the same connection
            assert (await client.request("GET", "/x")).status == status
        assert gateway.gateway.targets()[0].breaker == "closed"
        logged = [line.text for line in gateway.logs.tail(["x"])]
    assert logged[0].startswith("GET /x failed")
    assert "499" not in caplog.text
    assert "Traceback" not in caplog.text  # it is in the service's log


async def asgi_that_fails(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"some", "more_body": True})
    raise RuntimeError("in the middle")


def wsgi_that_fails(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    yield b"some"
    raise RuntimeError("in the middle")


@pytest.mark.parametrize("wsgi", [False, True])
async def test_an_application_that_fails_within_its_response_is_not_taken_for_its_client(
    wsgi: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with (
        running(RouteSpec("/x", "api"), spec=GatewaySpec(breaker_failures=1)) as gateway,
        hosted(wsgi_that_fails if wsgi else asgi_that_fails, wsgi=wsgi) as service,
    ):
        gateway.registry.announce(Endpoint("api", "api-1", handler=service.app.handle))
        with pytest.raises((TruncatedError, ConnectionError)):
            await gateway.get("/x")
        assert gateway.gateway.targets()[0].breaker == "closed"
        assert "in the middle" in service.errors()
    assert "499" not in caplog.text
    assert "api failed during its response" in caplog.text

"""A hosted application reads compressed bodies as it would under aiohttp's own server."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from msctl.model.route_spec import RouteSpec
from msctl.model.service_spec import ServiceSpec
from tests.support.supervisor import MakeRig
from tests.unit.gateway.harness import running

APP = """
import asyncio
from aiohttp import web
async def read(request):
    data = await request.read()
    return web.json_response([len(data), data[:5].decode(), request.headers.get("Content-Encoding")])
async def pieces(request):
    sizes = [len(piece) async for piece in request.content.iter_any()]
    return web.json_response([sum(sizes), max(sizes)])
async def turns(request):
    loop, count = asyncio.get_running_loop(), 0
    def turn():
        nonlocal count, handle
        count += 1
        handle = loop.call_soon(turn)
    handle = loop.call_soon(turn)
    pieces = [len(piece) async for piece in request.content.iter_any()]
    handle.cancel()
    return web.json_response([len(pieces), count])
async def form(request):
    return web.json_response(dict(await request.post()))
def create_app():
    app = web.Application(client_max_size=100_000)
    app.router.add_post("/read", read)
    app.router.add_post("/pieces", pieces)
    app.router.add_post("/turns", turns)
    app.router.add_post("/form", form)
    return app
"""
DATA = b"hello" * 10_000
CODED = {
    "gzip": gzip.compress(DATA, mtime=0),
    "GZIP": gzip.compress(DATA, mtime=0),
    "deflate": zlib.compress(DATA),
    "identity": DATA,
}


@pytest.fixture(params=["its own listener", "the gateway"])
async def base(rig: MakeRig, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    (tmp_path / "zip_app.py").write_text(APP)
    one = rig(ServiceSpec("zip", app="zip_app:create_app", port=0))
    await one.supervisor.start(["zip"])
    if request.param == "its own listener":
        yield f"http://{one.service('zip').addresses[0]}"
        return
    async with running(RouteSpec("/", "zip")) as gateway:
        for endpoint in one.registry.endpoints("zip"):
            gateway.registry.announce(endpoint)
        yield f"http://127.0.0.1:{gateway.port}"


async def post(url: str, data: object, coding: str) -> tuple[int, str]:
    headers = {"Content-Encoding": coding, "Connection": "close"}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(url, data=data, headers=headers) as answer,
    ):
        return answer.status, await answer.text()


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 7):
        yield data[start : start + 7]


@pytest.mark.parametrize("coding", CODED)
async def test_a_compressed_body_is_read_decompressed(base: str, coding: str) -> None:
    expected = (200, f'[{len(DATA)}, "hello", "{coding}"]')
    assert await post(f"{base}/read", CODED[coding], coding) == expected
    assert await post(f"{base}/read", chunks(CODED[coding]), coding) == expected


async def test_a_form_may_be_compressed(base: str) -> None:
    async with aiohttp.ClientSession() as session:
        headers = {
            "Content-Encoding": "gzip",
            "Content-Type": "application/x-www-form-urlencoded",
            "Connection": "close",
        }
        async with session.post(
            f"{base}/form", data=gzip.compress(b"a=1&b=2", mtime=0), headers=headers
        ) as answer:
            assert await answer.json() == {"a": "1", "b": "2"}


async def test_the_application_s_limit_applies_to_the_decompressed_body(base: str) -> None:
    status, _ = await post(f"{base}/read", gzip.compress(bytes(200_000), mtime=0), "gzip")
    assert status == 413


async def test_a_decompression_bomb_is_decompressed_only_as_it_is_read(base: str) -> None:
    status, text = await post(f"{base}/pieces", gzip.compress(bytes(64 * 2**20), mtime=0), "gzip")
    total, largest = map(int, text.strip("[]").split(","))
    assert (status, total) == (200, 64 * 2**20)
    assert largest <= 2**20


async def test_other_tasks_run_between_the_pieces_of_a_body(base: str) -> None:
    _, text = await post(f"{base}/turns", gzip.compress(bytes(64 * 2**20), mtime=0), "gzip")
    pieces, turns = map(int, text.strip("[]").split(","))
    assert pieces > 100
    assert turns >= pieces - 2


async def test_an_empty_body_is_empty(base: str) -> None:
    assert await post(f"{base}/read", b"", "gzip") == (200, '[0, "", "gzip"]')


async def test_a_body_that_is_not_in_its_coding_is_400(base: str) -> None:
    status, text = await post(f"{base}/read", b"no gzip at all", "gzip")
    assert (status, "gzip" in text) == (400, True)


async def test_an_unsupported_coding_is_415(base: str) -> None:
    try:
        import brotli  # type: ignore[import-not-found] # noqa: F401 - the package is not ours
    except ModuleNotFoundError:
        status, text = await post(f"{base}/read", b"x", "br")
        assert (status, "br" in text) == (415, True)

"""Moves bodies of any size, in a process of its own: `python -m tests.process.bulk KIND [URL]`.

KIND is `service` (the application alone), `hosted` (the same behind a gateway, in its process) or `remote`
(a gateway in front of URL). Prints the port when it accepts; ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import uvloop
from aiohttp import web

from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from tests.unit.gateway.harness import HOSTED, REMOTE, running

BLOCK = bytes(range(256)) * 256


def application() -> web.Application:
    """GET /down?size=N sends N bytes; POST /up answers how many came, and with ?first=N reads no more
    than about N of them before POST /go; GET /moved says how many bytes it has seen go and come."""
    moved, go = Counter[str](), asyncio.Event()

    async def down(request: web.Request) -> web.StreamResponse:
        size = int(request.query["size"])
        response = web.StreamResponse()
        if "chunked" not in request.query:
            response.content_length = size
        await response.prepare(request)
        for _ in range(size // len(BLOCK)):
            await response.write(BLOCK)
            moved["down"] += len(BLOCK)
        return response

    async def up(request: web.Request) -> web.Response:
        first, received = int(request.query.get("first", 0)), 0
        async for piece in request.content.iter_any():
            received += len(piece)
            if first and received >= first:
                await go.wait()
        return web.Response(text=str(received))

    async def say(_: web.Request) -> web.Response:
        return web.json_response(moved)

    async def proceed(_: web.Request) -> web.Response:
        go.set()
        return web.Response()

    app = web.Application(client_max_size=0)
    app.add_routes(
        [web.get("/down", down), web.post("/up", up), web.get("/moved", say), web.post("/go", proceed)]
    )
    return app


async def main(kind: str, url: str | None) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    if kind == "service":
        runner = web.AppRunner(application(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await reader.read()
        await runner.cleanup()
        return
    async with running(RouteSpec("/", "bulk"), spec=GatewaySpec(max_body=0)) as gateway:
        if kind == REMOTE:
            assert url is not None
            gateway.announce("bulk", url)
        else:
            await gateway.serve("bulk", application(), HOSTED)
        print(gateway.port, flush=True)
        await reader.read()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))

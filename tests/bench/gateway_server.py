"""What the benchmark measures, each in a process: `python -m tests.bench.gateway_server MODE [URL]`.

MODE is `bare` (aiohttp alone), `hosted` (the same application behind the gateway, in process) or `remote`
(the gateway in front of URL). Prints its address when it accepts.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop
from aiohttp import web

from msctl.clock import SystemClock
from msctl.discovery.registry import Registry
from msctl.gateway.app import Gateway
from msctl.gateway.server import KEEP_ALIVE_S, GatewayServer
from msctl.model.endpoint import Endpoint
from msctl.model.project import GatewaySpec, RouteSpec

USERS = b'[{"id":1,"name":"Alice"},{"id":2,"name":"Bob"}]\n'


async def users(request: web.Request) -> web.Response:
    return web.Response(body=USERS, content_type="application/json")


async def echo(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def main(mode: str, url: str | None) -> None:
    loop = asyncio.get_running_loop()
    app = web.Application()
    app.router.add_get("/users", users)
    app.router.add_get("/ws", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    server: Any = runner.server
    if mode != "bare":
        registry = Registry()
        if url is None:
            registry.announce(Endpoint("users", "users-1", handler=server.request_handler))
        else:
            registry.announce(Endpoint("users", "users-1", base_url=url))
        registry.announce(Endpoint("hang", "hang-1", handler=lambda _: asyncio.Event().wait()))  # type: ignore[arg-type,return-value] # never answers
        routes = [RouteSpec("/users", "users"), RouteSpec("/ws", "users"), RouteSpec("/hang", "hang")]
        gateway = Gateway(GatewaySpec(), routes, registry, clock=SystemClock(asyncio.sleep))
        await gateway.startup()

        def make(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.Request:
            return web.Request(message, payload, protocol, writer, task, loop, client_max_size=0)

        server = GatewayServer(
            gateway.handle,
            request_factory=make,
            auto_decompress=False,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=KEEP_ALIVE_S,
        )
    listener = await loop.create_server(server, "127.0.0.1", 0, backlog=2048)
    host, port = listener.sockets[0].getsockname()[:2]
    print(f"{host}:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))

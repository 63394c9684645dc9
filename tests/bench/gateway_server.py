"""What the benchmark measures, each in a process: `python -m tests.bench.gateway_server MODE`.

MODE is `bare` (aiohttp alone), `hosted` (the same application behind the gateway, in process) or `observed`
(as hosted, with metrics and traces). Prints its address when it accepts.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import uvloop
from aiohttp import web

from msctl.clock import SystemClock
from msctl.discovery.registry import Registry
from msctl.gateway.app import Gateway
from msctl.hosting.aiohttp_app import AiohttpApp
from msctl.http.server import HttpServer
from msctl.model.endpoint import Endpoint
from msctl.model.exchange import Exchange
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from msctl.model.service_context import ServiceContext
from msctl.telemetry.logs.hub import LogHub
from msctl.telemetry.metrics.metrics import Metrics
from msctl.telemetry.tracing.requests import RequestObserver
from msctl.telemetry.tracing.tracer import Tracer

USERS = b'[{"id":1,"name":"Alice"},{"id":2,"name":"Bob"}]\n'


async def users(request: web.Request) -> web.Response:
    return web.Response(body=USERS, content_type="application/json")


async def echo(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def hang(_exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def main(mode: str) -> None:
    loop = asyncio.get_running_loop()
    app = web.Application()
    app.router.add_get("/users", users)
    app.router.add_get("/ws", echo)
    factory: Callable[[], asyncio.Protocol]
    if mode == "bare":
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        assert runner.server is not None
        factory = runner.server
    else:
        factory = HttpServer((await _gateway(app, observed=mode == "observed")).handle)
    listener = await loop.create_server(factory, "127.0.0.1", 0, backlog=2048)
    host, port = listener.sockets[0].getsockname()[:2]
    print(f"{host}:{port}", flush=True)
    await asyncio.Event().wait()


async def _gateway(app: web.Application, *, observed: bool) -> Gateway:
    clock = SystemClock(asyncio.sleep)
    registry, logs = Registry(), LogHub(clock)
    context = ServiceContext(
        name="users", instance="users-1", host="127.0.0.1", port=None, amqp_url="amqp://x/", env={}
    )
    hosted = AiohttpApp(app, context, logs=logs, clock=clock)
    await hosted.startup()
    registry.announce(Endpoint("users", "users-1", handler=hosted.handle))
    registry.announce(Endpoint("hang", "hang-1", handler=hang))
    routes = [RouteSpec("/users", "users"), RouteSpec("/ws", "users"), RouteSpec("/hang", "hang")]
    observer = RequestObserver(Metrics(), Tracer(), logs) if observed else None
    gateway = Gateway(GatewaySpec(), routes, registry, clock=clock, observer=observer)
    await gateway.startup()
    return gateway


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main(sys.argv[1]))

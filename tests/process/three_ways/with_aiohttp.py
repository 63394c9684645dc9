"""The probed service, as an aiohttp application."""

import asyncio
import os
from pathlib import Path

from aiohttp import web


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.method} {request.version.major}.{request.version.minor}")


async def size(request: web.Request) -> web.Response:
    total = 0
    async for piece in request.content.iter_any():
        total += len(piece)
    return web.Response(text=str(total))


async def head_size(request: web.Request) -> web.Response:
    own = [(name, value) for name, value in request.headers.items() if name.lower().startswith("x-probe")]
    return web.Response(text=f"{len(own)} {sum(len(value) for _, value in own)}")


async def cookies(_: web.Request) -> web.Response:
    response = web.Response(text="150")
    for number in range(150):
        response.headers.add("Set-Cookie", f"c{number}={number}")
    return response


async def long_field(_: web.Request) -> web.Response:
    return web.Response(text="9000", headers={"X-Long": "x" * 9000})


async def nothing(_: web.Request) -> web.Response:
    return web.Response(status=204)


async def fail(_: web.Request) -> web.Response:
    raise RuntimeError("boom")


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"half")
    raise RuntimeError("boom")


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for piece in (b"one", b"two"):
        await response.write(piece)
    return response


async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(0.3)
    return web.Response(text="slow")


async def store(request: web.Request) -> web.Response:
    """Store, await, publish: both must happen, whether or not the client waits."""
    mark = Path(request.query["mark"])
    mark.with_suffix(".stored").touch()
    await asyncio.sleep(0.5)
    mark.with_suffix(".published").touch()
    return web.Response(text="done")


async def refuse(_: web.Request) -> web.Response:
    """Answers without reading the body."""
    return web.Response(status=403, text="no")


async def chat(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(protocols=["chat"])
    await socket.prepare(request)
    async for message in socket:
        if message.data == "bye":
            await socket.close(code=4001, message=b"bye")
        else:
            await socket.send_str(f"echo {message.data}")
    return socket


def create_app() -> web.Application:
    app = web.Application()
    for name, handler in {
        "/": hello,
        "/head-size": head_size,
        "/cookies": cookies,
        "/long-field": long_field,
        "/nothing": nothing,
        "/fail": fail,
        "/cut": cut,
        "/stream": stream,
        "/slow": slow,
        "/store": store,
        "/chat": chat,
    }.items():
        app.router.add_get(name, handler)
    app.router.add_post("/size", size)
    app.router.add_post("/refuse", refuse)
    return app


if __name__ == "__main__":
    web.run_app(
        create_app(),
        host=os.environ["HOST"],
        port=int(os.environ["PORT"]),
        print=lambda *_: None,
        max_field_size=65536,
        max_headers=256,
    )

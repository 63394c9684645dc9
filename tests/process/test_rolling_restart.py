"""Replicas are restarted in turn: under load no request fails, and WebSockets are closed properly."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from aiohttp import ClientSession, WSMsgType

from tests.support.course import Course
from tests.support.waiting import until

APP = """
import asyncio, os
from aiohttp import web

async def answer(request):
    await asyncio.sleep(0.02)
    return web.Response(text=str(os.getpid()))

async def talk(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for _ in socket:
        pass
    return socket

app = web.Application()
app.router.add_get("/api", answer)
app.router.add_get("/api/ws", talk)
# It ends at once when it is told to, whatever it is answering.
web.run_app(app, host=os.environ["HOST"], port=int(os.environ["PORT"]), print=None, handle_signals=False)
"""


@pytest.fixture
def own(course: Course) -> Course:
    folder = course.msctl.folder
    (folder / "api.py").write_text(APP)
    (folder / "msctl.toml").write_text(
        f"""
[project]
name = "rolling"
[services.api]
command = [{json.dumps(sys.executable)}, "api.py"]
replicas = 2
routes = ["/api"]
health = "/api"
[gateway]
port = {course.gateway}
"""
    )
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT"):
        del course.msctl.env[name]
    return course


async def test_no_request_fails_while_replicas_restart(own: Course) -> None:
    await asyncio.to_thread(own.msctl.ok, "up", "-d")
    answered: list[tuple[int, str]] = []
    over = asyncio.Event()

    async def ask(session: ClientSession) -> None:
        while not over.is_set():
            async with session.get(own.url("/api")) as response:
                answered.append((response.status, await response.text()))

    async with ClientSession() as session:
        socket = await session.ws_connect(own.url("/api/ws"))
        asking = [asyncio.create_task(ask(session)) for _ in range(4)]
        await until(lambda: len({pid for _, pid in answered}) == 2)
        await asyncio.to_thread(own.msctl.ok, "restart", "api")
        await until(lambda: len({pid for _, pid in answered}) == 4)
        over.set()
        await asyncio.gather(*asking)
        closed = await socket.receive()
    assert {status for status, _ in answered} == {200}
    assert (closed.type, closed.data) == (WSMsgType.CLOSE, 1001)
    states = json.loads(await asyncio.to_thread(own.msctl.ok, "status", "--json"))["data"]["services"]
    assert {one["state"] for one in states} == {"ready"}

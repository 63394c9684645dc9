"""A dependent of a replicated service calls one address, whatever becomes of the instances."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.support.course import Course
from tests.support.http import request

BACK = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""
FRONT = """
import os, aiohttp
from aiohttp import web
def create_app(context):
    url = context.env["BACK_URL"]
    async def ask(request):
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return web.json_response({"url": url, "status": answer.status, "pid": await answer.text()})
    app = web.Application()
    app.router.add_get("/front", ask)
    return app
"""


@pytest.fixture
def pair(course: Course) -> Course:
    folder = course.msctl.folder
    (folder / "back.py").write_text(BACK)
    (folder / "front.py").write_text(FRONT)
    (folder / "msctl.toml").write_text(
        f"""
[project]
name = "pair"
[services.back]
command = "python3 back.py"
replicas = 2
health = "/"
[services.front]
app = "front:create_app"
routes = ["/front"]
depends_on = ["back"]
[gateway]
port = {course.gateway}
"""
    )
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT"):
        del course.msctl.env[name]
    return course


def asked(course: Course, times: int) -> list[dict[str, object]]:
    answers = [request(course.url("/front")) for _ in range(times)]
    return [json.loads(answer.body) for answer in answers]


def pids(course: Course) -> set[int]:
    (back,) = [one for one in course.msctl.status()["services"] if one["name"] == "back"]
    return {instance["pid"] for instance in back["instances"]}


def test_calls_are_balanced_and_survive_an_instance_a_restart_and_scaling(pair: Course) -> None:
    pair.msctl.ok("up", "-d")
    first = asked(pair, 40)
    assert {answer["status"] for answer in first} == {200}
    assert {int(str(answer["pid"])) for answer in first} == pids(pair)

    os.kill(min(pids(pair)), signal.SIGKILL)
    assert [a for a in asked(pair, 20) if a["status"] != 200] == []

    pair.msctl.ok("restart", "back")
    pair.msctl.ok("scale", "back=3")
    after = asked(pair, 60)
    assert {answer["status"] for answer in after} == {200}
    assert {int(str(answer["pid"])) for answer in after} == pids(pair)
    assert {answer["url"] for answer in (*first, *after)} == {first[0]["url"]}


def test_service_addresses_can_be_switched_off(pair: Course) -> None:
    pair.msctl.env["MSCTL_GATEWAY_SERVICE_ADDRESSES"] = "off"
    pair.msctl.ok("up", "-d")
    assert len({answer["pid"] for answer in asked(pair, 10)}) == 1

"""A run can be looked at after `down`, and compared with another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.course import Course
from tests.support.http import request

APP = """
from aiohttp import web

async def pay(request):
    return web.Response(text=str(1 / int(request.match_info["n"])))

def create_app():
    app = web.Application()
    app.router.add_get("/pay/{n}", pay)
    return app
"""


@pytest.fixture
def own(course: Course) -> Course:
    folder = course.msctl.folder
    (folder / "payments.py").write_text(APP)
    (folder / "msctl.toml").write_text(
        f"""
[project]
name = "payments"
[services.payments]
app = "payments:create_app"
routes = ["/pay"]
[gateway]
port = {course.gateway}
"""
    )
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT"):
        del course.msctl.env[name]
    return course


def test_two_runs_are_listed_and_compared(own: Course) -> None:
    def document(*args: str) -> Any:
        return json.loads(own.msctl.ok(*args, "--json"))["data"]

    assert own.msctl.run("runs").returncode == 1
    own.msctl.ok("up", "-d")
    assert request(own.url("/pay/2")).status == 200
    assert "running" in own.msctl.ok("runs")
    own.msctl.ok("down")
    own.msctl.ok("up", "-d")
    for number in (1, 0, 0):
        request(own.url(f"/pay/{number}"))
    own.msctl.ok("down")

    assert [(run["requests"], run["errors"]) for run in document("runs")] == [(3, 2), (1, 0)]
    (change,) = document("runs", "compare")["routes"]
    assert (change["before"]["errors"], change["after"]["errors"]) == (0, 2)
    failed = document("traces", "--run", "1", "--errors")
    assert len(failed) == 2
    assert document("traces", "--run", "1", failed[0]["trace_id"])["spans"][0]["error"]
    assert "ZeroDivisionError" in own.msctl.ok("logs", "--run", "1")
    assert "ZeroDivisionError" not in own.msctl.ok("logs", "--run", "2")
    assert own.msctl.run("traces", "--run", "7").returncode == 2
    assert own.msctl.run("logs", "--run", "1", "-f").returncode == 2


def test_a_damaged_database_is_said_and_replaced(own: Course) -> None:
    own.msctl.ok("up", "-d")
    own.msctl.ok("down")
    (found,) = Path(own.msctl.env["MSCTL_STATE_DIR"]).rglob("runs.sqlite")
    found.write_bytes(b"x" * 5000)
    assert own.msctl.run("runs").returncode == 1
    own.msctl.ok("up", "-d")
    assert "damaged" in own.msctl.ok("logs")
    assert len(own.msctl.ok("runs").splitlines()) == 2

"""The pytest plugin gives a test a stack of its own, and takes it away again."""

from __future__ import annotations

from pathlib import Path

import pytest

from msctl.testing import StackFactory, running_stack
from tests.support.http import request

APP = """
from aiohttp import web

async def who(request):
    return web.Response(text=request.app["who"])

def create_app(context):
    print("made", context.instance)
    app = web.Application()
    app["who"] = context.instance
    app.router.add_get("/who", who)
    return app
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "who.py").write_text(APP)
    (tmp_path / "msctl.toml").write_text(
        '[services.who]\napp = "who:create_app"\nport = 8099\nroutes = ["/who"]\nisolation = "process"\n'
    )
    return tmp_path


def test_a_project_is_up_on_ports_of_its_own(folder: Path, msctl_stack: StackFactory) -> None:
    stack = msctl_stack(folder)
    twin = msctl_stack(folder)
    assert stack.address("who") != twin.address("who")
    assert request(stack.url("/who")).body == b"who-1"
    assert request(stack.url("/who", service="who")).status == 200
    stack.stop("who")
    assert request(stack.url("/who")).status == 503
    stack.start("who")
    assert request(stack.url("/who")).status == 200
    stack.scale(who=2)
    assert {i.name for i in stack.snapshot().services[0].instances} == {"who-1", "who-2"}
    seen: set[bytes] = set()
    while len(seen) < 2:
        seen.add(request(stack.url("/who")).body)
    assert seen == {b"who-1", b"who-2"}
    stack.restart("who")
    assert "made who-2" in stack.logs("who")
    with pytest.raises(LookupError):
        stack.address("nobody")


def test_it_is_gone_after_the_test(folder: Path) -> None:
    with running_stack(folder, ["gateway"]) as stack:
        url = stack.url("/who")
        assert request(url).status == 503
        assert stack.amqp_url.startswith("amqp://")
    with pytest.raises(OSError):
        request(url)


def test_without_a_folder_it_is_the_courses_system(msctl_stack: StackFactory) -> None:
    assert request(msctl_stack().url("/hello")).body == b"Hello, World!"


def test_what_keeps_it_from_coming_up_is_in_the_error(folder: Path) -> None:
    (folder / "who.py").write_text("raise ValueError('no database')")
    with (folder / "msctl.toml").open("a") as file:
        file.write('restart = "no"\n')
    with pytest.raises(RuntimeError, match="no database"), running_stack(folder):
        pass

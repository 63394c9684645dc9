"""The project that `msctl init` writes resolves."""

from __future__ import annotations

import asyncio
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from msctl.config.init import EXAMPLES, render_example, render_init
from msctl.config.reading.load import load
from msctl.errors import UsageError
from msctl.model.service_spec import Isolation
from msctl.model.snapshots import Kind
from tests.support.example_shop import hosted, only, post, write
from tests.support.ports import reserved_port


@pytest.fixture
def port() -> Iterator[int]:
    with reserved_port() as port:
        yield port


@pytest.mark.parametrize("name", ["shop", 'odd "name"'])
def test_init_names_the_project(name: str) -> None:
    assert tomllib.loads(render_init(name))["project"]["name"] == name


def test_what_init_writes_means_the_course_system(tmp_path: Path) -> None:
    course = load(cwd=tmp_path, env={}).project
    (tmp_path / "msctl.toml").write_text(render_init("mine"))
    project = load(cwd=tmp_path, env={}).project
    assert project.name == "mine"
    assert (project.services, project.gateway, project.broker) == (
        course.services,
        course.gateway,
        course.broker,
    )


def test_the_services_that_the_file_shows_in_comments_are_right(tmp_path: Path) -> None:
    text = render_init("mine")
    shown = "".join(
        line.removeprefix("#   ") for line in text.splitlines(keepends=True) if line.startswith("#   ")
    )
    (tmp_path / "msctl.toml").write_text(text + shown)
    assert load(cwd=tmp_path, env={}).project.service("payments") is not None


@pytest.mark.parametrize(
    ("program", "file", "command"),
    [("node", "users.mjs", "node"), ("go", "users.go", "go"), ("python3", "users.py", "python3")],
)
def test_the_shop_takes_the_first_language_that_is_there(
    tmp_path: Path, program: str, file: str, command: str
) -> None:
    files = render_example("shop", "mine", only(program))
    assert set(files) == {"msctl.toml", "orders.py", "payments.py", "scenario.py", file}
    write(files, tmp_path)
    project = load(cwd=tmp_path, env={}).project
    users, orders, payments, _ = project.services
    assert project.name == "mine"
    assert (users.kind, users.command and users.command[0]) == (Kind.COMMAND, command)
    assert (orders.kind, payments.isolation) == (Kind.HOSTED, Isolation.PROCESS)


def test_without_any_language_the_shop_takes_python() -> None:
    assert "users.py" in render_example("shop", "mine", lambda _name: None)


def test_an_unknown_example_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        render_example("shopp", "mine", shutil.which)
    assert caught.value.hint == 'did you mean "shop"?'
    assert EXAMPLES == ("shop",)


async def test_orders_starts_and_stops_without_a_broker(tmp_path: Path, port: int) -> None:
    write(render_example("shop", "mine", only("python3")), tmp_path)
    env = {"USERS_URL": f"http://127.0.0.1:{port}"}
    before = asyncio.all_tasks()
    async with (
        hosted(tmp_path / "orders.py", f"amqp://127.0.0.1:{port}/", env) as orders,
        aiohttp.ClientSession() as http,
    ):
        assert (await post(http, f"{orders}/orders", '{"user": 1, "amount": 1}'))[0] == 503
    left = asyncio.all_tasks() - before
    if left:
        await asyncio.wait(left, timeout=5)
    assert all(task.done() for task in left)

"""What `msctl init` writes resolves, and the shop really works: over HTTP, AMQP and two languages."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from msctl.config.init import EXAMPLES, render_example, render_init
from msctl.config.reading.load import load
from msctl.errors import UsageError
from msctl.model.project import Isolation, ServiceContext
from msctl.model.snapshots import Kind
from tests.support.ports import reserved_port


def only(program: str) -> Callable[[str], str | None]:
    """A machine that has this one program."""
    return lambda name: name if name == program else None


@pytest.fixture
def port() -> Iterator[int]:
    with reserved_port() as port:
        yield port


def write(files: Mapping[str, str], folder: Path) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


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
    assert set(files) == {"msctl.toml", "orders.py", "payments.py", file}
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


@pytest.mark.parametrize("program", ["node", "go", "python3"])
async def test_users_serve_in_every_language(tmp_path: Path, program: str, port: int) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not on this machine")
    write(render_example("shop", "mine", only(program)), tmp_path)
    async with running_users(tmp_path, port) as url, aiohttp.ClientSession() as http:
        assert await get(http, f"{url}/users") == (
            200,
            [{"id": 1, "name": "Alice"}, {"id": 2, "name": "Bob"}],
        )
        assert await get(http, f"{url}/users/2") == (200, {"id": 2, "name": "Bob"})
        assert await get(http, f"{url}/users/3") == (404, {"detail": "not found"})
        assert await get(http, f"{url}/healthz") == (200, {"status": "up"})


@pytest.mark.rabbitmq
async def test_an_order_asks_users_and_is_paid(tmp_path: Path, rabbitmq: str, port: int) -> None:
    write(render_example("shop", "mine", only("python3")), tmp_path)
    async with AsyncExitStack() as stack:
        users = await stack.enter_async_context(running_users(tmp_path, port))
        orders = await stack.enter_async_context(
            hosted(tmp_path / "orders.py", rabbitmq, {"USERS_URL": users})
        )
        payments = await stack.enter_async_context(hosted(tmp_path / "payments.py", rabbitmq, {}))
        http = await stack.enter_async_context(aiohttp.ClientSession())

        order = {"order": 1, "user": {"id": 1, "name": "Alice"}, "amount": 12.5}
        assert await post(http, f"{orders}/orders", '{"user": 1, "amount": 12.5}') == (201, order)
        assert await get(http, f"{orders}/orders/1") == (200, order)
        assert await get(http, f"{orders}/orders") == (200, [order])
        assert (await post(http, f"{orders}/orders", '{"user": 9, "amount": 1}'))[0] == 422
        assert (await post(http, f"{orders}/orders", "{"))[0] == 400
        assert (await get(http, f"{orders}/orders/9"))[0] == 404
        async with asyncio.timeout(10):
            while not (paid := (await get(http, f"{payments}/payments"))[1]["payments"]):
                await asyncio.sleep(0.01)  # it tells of itself over HTTP alone
        assert paid == [{"order": 1, "amount": 12.5}]


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


async def get(http: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with http.get(url) as response:
        return response.status, await response.json(content_type=None)


async def post(http: aiohttp.ClientSession, url: str, body: str) -> tuple[int, Any]:
    async with http.post(url, data=body) as response:
        return response.status, await response.json(content_type=None)


@asynccontextmanager
async def running_users(folder: Path, port: int) -> AsyncIterator[str]:
    """The users service as msctl would start it: $HOST, $PORT, a session of its own."""
    users = load(cwd=folder, env={}).project.service("users")
    assert users is not None
    assert users.command is not None
    process = await asyncio.create_subprocess_exec(
        *users.command,
        cwd=folder,
        env={**os.environ, "HOST": "127.0.0.1", "PORT": str(port)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as http, asyncio.timeout(60):
            while not await answers(http, f"{url}/healthz"):
                assert process.returncode is None, "users has ended"
                await asyncio.sleep(0.02)  # a program tells of itself over HTTP alone
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        await process.wait()


async def answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


@asynccontextmanager
async def hosted(file: Path, amqp_url: str, env: Mapping[str, str]) -> AsyncIterator[str]:
    """A hosted service of the shop on a port of its own."""
    spec = importlib.util.spec_from_file_location(f"shop_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    runner = web.AppRunner(
        module.create_app(ServiceContext(file.stem, f"{file.stem}-1", "127.0.0.1", None, amqp_url, env))
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()

"""The shop that `msctl init` writes works: over HTTP and AMQP, in Python, Node.js and Go."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from msctl.config.init import render_example
from msctl.config.reading.load import load
from tests.support import tools
from tests.support.example_shop import hosted, only, post, write
from tests.support.ports import reserved_port


@pytest.fixture
def port() -> Iterator[int]:
    with reserved_port() as port:
        yield port


@pytest.mark.parametrize("program", ["node", "go", "python3"])
async def test_users_serve_in_every_language(tmp_path: Path, program: str, port: int) -> None:
    tools.require(program)
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
async def test_order_queries_users_and_payments(tmp_path: Path, rabbitmq: str, port: int) -> None:
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
        async with asyncio.timeout(60):
            while not (paid := (await get(http, f"{payments}/payments"))[1]["payments"]):
                await asyncio.sleep(0.01)  # it tells of itself over HTTP alone
        assert paid == [{"order": 1, "amount": 12.5}]


async def get(http: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with http.get(url) as response:
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

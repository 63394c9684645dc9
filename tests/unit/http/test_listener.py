"""Which of the services behind one listener answers a request, and until when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from msctl.http.listener import Listener, Tenant
from msctl.model.address import Address
from msctl.model.exchange import Exchange


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener(Address("127.0.0.1", 0), None)
    yield made
    for name in ("hello", "root", "gateway"):
        await made.finish(name, 1)
    assert not made.bound


def tenant(name: str, *prefixes: str) -> Tenant:
    async def handle(exchange: Exchange) -> None:
        exchange.respond(200, b"OK", [], name.encode())

    return Tenant(name, handle, lambda: prefixes)


async def answers(listener: Listener, *paths: str) -> list[str]:
    """Who answers each path; the status where nobody does."""
    found: list[str] = []
    async with aiohttp.ClientSession() as session:
        for path in paths:
            async with session.get(f"http://127.0.0.1:{listener.address.port}{path}") as answer:
                found.append(await answer.text() if answer.status == 200 else str(answer.status))
    return found


async def test_a_prefix_takes_whole_path_segments_only(listener: Listener) -> None:
    hello, other = tenant("hello", "/hello"), tenant("root", "/helloworld", "/hi/")
    for one in (hello, other):
        await listener.attach(one)
    paths = ("/hello", "/hello/", "/hello/x", "/hello?x", "/helloX", "/hellow", "/helloworld", "/hell", "/")
    assert await answers(listener, *paths) == [*["hello"] * 4, "404", "404", "root", "404", "404"]
    assert await answers(listener, "/hi/x", "/hi", "/hix") == ["root", "404", "404"]
    for one in (hello, other):
        listener.detach(one)


async def test_a_404_names_a_few_of_a_thousand_paths(listener: Listener) -> None:
    hello, root = tenant("hello", *(f"/hello{number}" for number in range(1000))), tenant("root", "/root")
    for one in (hello, root):
        await listener.attach(one)
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{listener.address.port}/{'x' * 1000}"
        async with session.get(url) as answer:
            text = await answer.text()
    assert answer.status == 404
    assert "/hello7, …" in text
    assert len(text) < 400
    for one in (hello, root):
        listener.detach(one)


async def test_the_longest_prefix_wins(listener: Listener) -> None:
    hello, root = tenant("hello", "/hello"), tenant("root", "/", "/hello/deep")
    for one in (hello, root):
        await listener.attach(one)
    assert await answers(listener, "/hello/x", "/hello/deep/x", "/helloX") == ["hello", "root", "root"]
    for one in (hello, root):
        listener.detach(one)


async def test_the_gateway_takes_every_request_while_it_runs(listener: Listener) -> None:
    hello, gateway = tenant("hello", "/hello"), tenant("gateway")
    for one in (hello, gateway):
        await listener.attach(one)
    assert await answers(listener, "/hello", "/x") == ["gateway", "gateway"]
    listener.detach(gateway)
    # Alone on its listener, a service answers every path by itself.
    assert await answers(listener, "/hello", "/x") == ["hello", "hello"]
    listener.detach(hello)


async def test_a_tenant_that_was_replaced_does_not_take_its_successor_away(listener: Listener) -> None:
    old, new = tenant("hello", "/hello"), tenant("hello", "/hello")
    await listener.attach(old)
    await listener.attach(new)
    listener.detach(old)
    assert await answers(listener, "/hello") == ["hello"]
    listener.detach(new)


async def test_no_connection_is_accepted_after_the_last_tenant_was_detached(listener: Listener) -> None:
    busy, release = asyncio.Event(), asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        if exchange.head.target == "/slow":
            busy.set()
            await release.wait()
        exchange.respond(200, b"OK", [], b"hello")

    hello = Tenant("hello", handle, tuple)
    await listener.attach(hello)
    url = f"http://127.0.0.1:{listener.address.port}/"
    under_way = asyncio.create_task(answers(listener, "/slow"))
    await busy.wait()
    listener.detach(hello)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url)
    release.set()
    assert await under_way == ["hello"]

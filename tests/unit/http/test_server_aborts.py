"""Clients that leave at any point, and slow ones: nothing is left of them, and nobody else waits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
from pathlib import Path

import psutil
import pytest

from msctl.http.limits import HttpLimits
from msctl.model.exchange import Exchange
from tests.support.long import Record
from tests.unit.http.serving import PATIENCE, TEXT, Client, Serving, read_all, serving

pytestmark = pytest.mark.both_loops

MIB = 1024 * 1024
AT_ONCE = 50

REQUESTS = [
    b"GET /get HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /get HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 5,
    b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100000,
    b"POST /get HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"4\r\nabcd\r\n" * 50
    + b"0\r\n\r\n",
    b"POST /read HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nabcd",
    b"GET /raw HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
]


class Sink:
    """Takes what comes after a 101."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> None:
        self.ended.set()


async def handle(exchange: Exchange) -> None:
    target = exchange.head.target
    if target == "/raw":
        sink = Sink()
        stream = exchange.upgrade([], sink)
        stream.write(b"a" * 1000)
        await sink.ended.wait()
    elif target == "/stream":
        exchange.start(200, b"", TEXT, length=None)
        for _ in range(20):
            exchange.write(b"a" * 65536)
            await exchange.drain()
        exchange.finish()
    else:
        if target == "/read":
            await read_all(exchange)
        elif target == "/slow":
            await asyncio.sleep(0.01)
        exchange.respond(200, b"", TEXT, b"Hello")


async def come_and_go(server: Serving, source: random.Random) -> None:
    """Send a part of a request, perhaps read something, and leave in one of the three ways."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    client = Client(reader, writer)
    data = source.choice(REQUESTS)
    with contextlib.suppress(OSError):
        client.raw(data[: source.choice([0, 1, 20, len(data) // 2, len(data) - 1, len(data)])])
        await asyncio.sleep(source.choice([0, 0, 0.002, 0.02]))
        if source.random() < 0.3:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await reader.read(1000)
        if source.random() < 0.2 and not writer.is_closing():
            client.end()
            await asyncio.sleep(0.002)
    if source.random() < 0.5 and not writer.is_closing():
        client.reset()
    else:
        client.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def crowd(server: Serving, count: int, source: random.Random) -> None:
    left = iter(range(count))

    async def visitor() -> None:
        for _ in left:
            await come_and_go(server, source)

    await asyncio.gather(*(visitor() for _ in range(AT_ONCE)))
    await server.until_idle()
    server.refusals.clear()


def left() -> tuple[int, int, int]:
    """Return how many descriptors, tasks and objects of the server there are."""
    gc.collect()
    files = Path("/proc/self/fd")
    ours = [one for one in gc.get_objects() if str(type(one).__module__).startswith("msctl.http")]
    return len(list(files.iterdir())) if files.exists() else 0, len(asyncio.all_tasks()), len(ours)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.long)])
async def test_clients_that_leave_at_any_point_leave_nothing_behind(count: int, record: Record) -> None:
    source = random.Random(count)
    memory = psutil.Process(os.getpid()).memory_info
    async with serving(handle, limits=HttpLimits(keepalive=5)) as server:
        await crowd(server, count // 2, source)
        before, used = left(), memory().rss
        await crowd(server, count // 2, source)
        after, grown = left(), (memory().rss - used) / MIB
        client = await server.client()
        client.get(b"/get")
        assert (await client.read()).body == b"Hello"

    record("memory, MiB", grown)
    assert after == before
    assert grown < 8
    assert not server.errors


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.long)])
async def test_slow_clients_hold_little_and_delay_nobody(count: int, record: Record) -> None:
    source = random.Random(count)
    memory = psutil.Process(os.getpid()).memory_info

    async def drip(client: Client) -> None:
        """Send a byte at a time, or read nothing of a stream."""
        data = source.choice(REQUESTS[:7])
        with contextlib.suppress(OSError):
            if b"/stream" in data:
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                client.raw(data)
                await asyncio.Event().wait()
            for byte in data:
                client.raw(bytes((byte,)))
                await asyncio.sleep(0.01)

    async with serving(handle, limits=HttpLimits(keepalive=PATIENCE)) as server:
        clients = [await server.client() for _ in range(count)]
        await server.until_idle(count)
        before = memory().rss
        drips = [asyncio.create_task(drip(client)) for client in clients]
        quick = await server.client()
        for _ in range(200):
            quick.get(b"/get")
            assert (await quick.read()).body == b"Hello"
        grown = (memory().rss - before) / MIB
        for task in drips:
            task.cancel()
        await asyncio.gather(*drips, return_exceptions=True)
        for client in clients:
            client.writer.transport.abort()
        quick.close()
        await server.until_idle()

    record("memory of a slow client, KiB", 1024 * grown / count)
    assert grown * MIB / count < 512 * 1024

"""Clients that leave at any point, and slow ones: nothing is left of them, and nobody else waits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random

import psutil
import pytest

from msctl.http.limits import HttpLimits
from msctl.model.exchange import Exchange
from tests.support.crowd import crowd, left_behind
from tests.support.long import Record
from tests.unit.http.serving import PATIENCE, TEXT, Client, read_all, serving

pytestmark = pytest.mark.both_loops

MIB = 1024 * 1024

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


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.long)])
async def test_clients_that_leave_at_any_point_leave_nothing_behind(count: int, record: Record) -> None:
    source = random.Random(count)
    memory = psutil.Process(os.getpid()).memory_info
    async with serving(handle, limits=HttpLimits(keepalive=5)) as server:
        await crowd(server.port, REQUESTS, count // 2, source)
        await server.until_idle()
        server.refusals.clear()
        before, used = left_behind("msctl.http"), memory().rss
        await crowd(server.port, REQUESTS, count // 2, source)
        await server.until_idle()
        server.refusals.clear()
        after, grown = left_behind("msctl.http"), (memory().rss - used) / MIB
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

"""The pool of connections to one instance: who waits is served, whatever became of who was first."""

from __future__ import annotations

import asyncio
import socket

import pytest

from msctl.gateway.policies import deadline
from msctl.gateway.upstream.pool import Pool
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from tests.support.recording_upstream import OK, Exchange, RecordingUpstream
from tests.unit.gateway.harness import running

PATIENCE = 5.0


def refusing_port() -> int:
    """A port at which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_a_waiter_tries_by_itself_when_the_connection_before_it_fails() -> None:
    loop = asyncio.get_running_loop()
    pool = Pool("127.0.0.1", refusing_port(), size=1, idle=10)
    results = await asyncio.gather(*(pool.acquire(loop, PATIENCE) for _ in range(3)), return_exceptions=True)
    # Not PoolFullError after its whole timeout: nothing is open.
    assert [type(result) for result in results] == [ConnectionRefusedError] * 3
    assert (pool.open, pool.waiting) == (0, 0)


async def test_a_waiter_gets_a_connection_once_one_is_dropped() -> None:
    upstream = await RecordingUpstream().start()
    host, port = upstream.url.removeprefix("http://").split(":")
    loop = asyncio.get_running_loop()
    pool = Pool(host, int(port), size=1, idle=10)
    first = await pool.acquire(loop, PATIENCE)
    waiting = asyncio.create_task(pool.acquire(loop, PATIENCE))
    await asyncio.sleep(0)
    assert pool.waiting == 1
    pool.drop(first)
    second = await waiting
    assert second is not first
    pool.drop(second)
    await pool.close()
    await upstream.stop()


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_waiter_that_is_cancelled_passes_its_turn_on(cancelled_first: bool) -> None:
    upstream = await RecordingUpstream().start()
    host, port = upstream.url.removeprefix("http://").split(":")
    loop = asyncio.get_running_loop()
    pool = Pool(host, int(port), size=1, idle=10)
    first = await pool.acquire(loop, PATIENCE)
    leaving, staying = (asyncio.create_task(pool.acquire(loop, PATIENCE)) for _ in range(2))
    await asyncio.sleep(0)
    # Either before its turn has come, or in the same step of the loop.
    if cancelled_first:
        leaving.cancel()
    pool.drop(first)
    leaving.cancel()
    connection = await staying
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (pool.open, pool.waiting) == (1, 0)
    pool.drop(connection)
    await pool.close()
    await upstream.stop()


@pytest.mark.parametrize("asked", [True, False])
async def test_a_connection_that_switched_protocols_carries_no_other_request(
    monkeypatch: pytest.MonkeyPatch, *, asked: bool
) -> None:
    monkeypatch.setattr(deadline, "CLOSING_S", 0.1)

    async def switches_at_first(exchange: Exchange) -> None:
        await exchange.head()
        if len(upstream.exchanges) == 1:
            await exchange.send(
                b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
        else:
            await exchange.send(OK)
        await exchange.eof()

    upstream = await RecordingUpstream(switches_at_first).start()
    # The tunnel is cut while both its ends are open.
    spec = GatewaySpec(stream_idle_timeout=0.2, retries=0)
    async with running(RouteSpec("/x", "x"), spec=spec) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        if asked:
            await client.send(
                b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
            assert (await client.head()).status == 101
            assert await client.reader.readexactly(2) == b"\x88\x02"
            await client.reader.readexactly(2)
            assert await client.closed()
        else:
            assert (await client.request("GET", "/x")).status == 502
        assert (await gateway.get("/x")).status == 200
        assert len(upstream.exchanges) == 2
        assert upstream.exchanges[0].received.count(b"\r\n\r\n") == 1
    await upstream.stop()

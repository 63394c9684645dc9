"""A connection has to last before its loss starts the backoff from the beginning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from msctl.amqp.connection import Connection
from msctl.amqp.errors import BrokerAwayError
from msctl.amqp.reconnecting import STEADY, keep_connected
from msctl.amqp.url import BrokerUrl, parse_url
from msctl.backoff import Backoff
from msctl.broker.server import BrokerServer
from msctl.clock import SystemClock
from tests.support.clock import FakeClock


@pytest.fixture
async def url() -> AsyncIterator[BrokerUrl]:
    server = BrokerServer(clock=SystemClock(asyncio.sleep), log=lambda *_: None, vhosts=("/",))
    host, port = await server.start("127.0.0.1", 0)
    yield parse_url(f"amqp://guest:guest@{host}:{port}/")
    await server.stop()


class Waits(FakeClock):
    """Moves on at once whenever somebody sleeps; ends the test after `last` sleeps."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.slept: list[float] = []
        self._last = last

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.set(self.monotonic() + seconds)
        if len(self.slept) == self._last:
            raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("lived", "waits"),
    [
        # Three failed attempts, then three connections that are lost after `lived` seconds each.
        (0.0, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]),
        (STEADY - 0.1, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]),
        (STEADY, [0.5, 1.0, 2.0, 0.5, 0.5, 0.5]),
    ],
)
async def test_only_a_connection_that_lasted_resets_the_backoff(
    url: BrokerUrl, lived: float, waits: list[float]
) -> None:
    clock = Waits(last=len(waits))

    async def connect() -> Connection:
        if len(clock.slept) < 3:
            raise BrokerAwayError("connection refused")
        return await Connection.open(url, name="test")

    async def use(_connection: Connection) -> None:
        clock.set(clock.monotonic() + lived)
        raise BrokerAwayError("the connection was lost")

    with pytest.raises(asyncio.CancelledError):
        await keep_connected(
            connect, use, notify=lambda _: None, clock=clock, backoff=Backoff(rand=lambda: 0.5)
        )
    assert clock.slept == waits


async def test_the_time_without_a_connection_counts_from_its_loss(url: BrokerUrl) -> None:
    clock = Waits(last=100)
    lost_at = 1000.0

    async def connect() -> Connection:
        if clock.monotonic() >= lost_at:
            raise BrokerAwayError("connection refused")
        return await Connection.open(url, name="test")

    async def use(_connection: Connection) -> None:
        clock.set(lost_at)
        raise BrokerAwayError("the connection was lost")

    with pytest.raises(BrokerAwayError, match="refused"):
        await keep_connected(
            connect,
            use,
            notify=lambda _: None,
            clock=clock,
            give_up_after=5,
            backoff=Backoff(rand=lambda: 0.5),
        )
    # After 0.5, 1, 2 and 4 s.
    assert clock.monotonic() == lost_at + 7.5

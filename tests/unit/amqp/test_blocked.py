"""A publisher blocked by the embedded broker's memory alarm is told what to do about it."""

from __future__ import annotations

import asyncio

import pytest
from pamqp.commands import Basic

from msctl.amqp.connection import Connection, closing
from msctl.amqp.publisher import Publisher
from msctl.amqp.queues import declare
from msctl.amqp.url import parse_url
from msctl.broker.server import BrokerServer
from msctl.clock import SystemClock
from msctl.errors import TimedOutError


async def test_hint_of_a_blocked_publisher_is_about_the_embedded_broker() -> None:
    server = BrokerServer(
        clock=SystemClock(asyncio.sleep), log=lambda _level, _text: None, memory_limit=100_000
    )
    host, port = await server.start("127.0.0.1", 0)
    connection = await Connection.open(parse_url(f"amqp://guest:guest@{host}:{port}/"), name="test")
    async with closing(connection):
        await declare(connection, "q", notify=lambda _text: None)
        publisher = await Publisher.open(connection, timeout=0.2)
        template = publisher.template(Basic.Properties(), exchange="", routing_key="q")
        with pytest.raises(TimedOutError, match="blocks publishers") as caught:
            for _ in range(3):
                await publisher.publish(template, b"x" * 90_000)
        assert "msctl queues" in (caught.value.hint or "")
        await publisher.close()
    await server.stop(timeout=1.0)


async def test_blocked_publisher_says_once_why_it_waits() -> None:
    server = BrokerServer(
        clock=SystemClock(asyncio.sleep), log=lambda _level, _text: None, memory_limit=100_000
    )
    host, port = await server.start("127.0.0.1", 0)
    connection = await Connection.open(parse_url(f"amqp://guest:guest@{host}:{port}/"), name="test")
    said: asyncio.Queue[str] = asyncio.Queue()
    async with closing(connection):
        await declare(connection, "q", notify=lambda _text: None)
        publisher = await Publisher.open(connection, timeout=5, notify=said.put_nowait)
        template = publisher.template(Basic.Properties(), exchange="", routing_key="q")
        for _ in range(3):
            await publisher.publish_nowait(template, b"x" * 90_000)
        drained = asyncio.create_task(publisher.drain())
        text = await asyncio.wait_for(said.get(), 60)
        assert "waiting" in text and "blocks publishers" in text
        server.purge("q")
        await asyncio.wait_for(drained, 60)
        assert (publisher.stats().confirmed, said.empty()) == (3, True)
        await publisher.close()
    await server.stop(timeout=1.0)

"""What a person does with a queue: over a real RabbitMQ and over the embedded broker alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from msctl.amqp.desk import Desk
from msctl.amqp.link import Link, closing
from msctl.amqp.queues import count, declare
from msctl.amqp.url import parse_url
from msctl.broker.server import BrokerServer
from msctl.clock import SystemClock
from msctl.errors import BrokerError
from msctl.model import PeekedMessage
from tests.support.rabbitmq import unique


@pytest.fixture(params=["embedded", "rabbitmq"])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of a broker of each kind."""
    if request.param == "rabbitmq":
        yield request.getfixturevalue("rabbitmq")
        return
    server = BrokerServer(
        clock=SystemClock(asyncio.sleep), log=lambda *_: None, users={"guest": "guest"}, vhosts=("/",)
    )
    host, port = await server.start("127.0.0.1", 0)
    yield f"amqp://guest:guest@{host}:{port}/"
    await server.stop()


@pytest.fixture
async def queue(broker: str) -> AsyncIterator[str]:
    name = unique()
    async with closing(await Link.open(parse_url(broker), name="test")) as link:
        await declare(link, name, say=lambda _: None)
        yield name
        await link.ask((await link.channel()).queue_delete(name))


async def ready(broker: str, queue: str) -> int:
    async with closing(await Link.open(parse_url(broker), name="test")) as link:
        return (await count(link, queue)).ready


async def take(messages: AsyncIterator[PeekedMessage], number: int) -> list[str]:
    async with asyncio.timeout(20):
        return [(await anext(messages)).body for _ in range(number)]


async def test_a_published_message_is_in_its_queue(broker: str, queue: str) -> None:
    desk = Desk(lambda: broker)
    await desk.publish(queue, b"hello", "text/x-test")
    messages = desk.peek(queue)
    async with asyncio.timeout(20):
        message = await anext(messages)
    await messages.aclose()  # type: ignore[attr-defined]  # an async generator
    assert (message.body, message.size, message.content_type) == ("hello", 5, "text/x-test")
    assert message.routing_key == queue


async def test_looking_takes_nothing_and_keeps_the_order(broker: str, queue: str) -> None:
    desk = Desk(lambda: broker)
    for text in (b"one", b"two", b"three"):
        await desk.publish(queue, text, "text/plain")
    messages = desk.peek(queue)
    assert await take(messages, 3) == ["one", "two", "three"]
    await desk.publish(queue, b"four", "text/plain")
    assert await take(messages, 1) == ["four"]
    await messages.aclose()  # type: ignore[attr-defined]  # as above
    assert await ready(broker, queue) == 4
    again = desk.peek(queue)
    assert await take(again, 4) == ["one", "two", "three", "four"]
    await again.aclose()  # type: ignore[attr-defined]  # as above


async def test_messages_that_are_alike_are_each_shown(broker: str, queue: str) -> None:
    desk = Desk(lambda: broker)
    await desk.publish(queue, b"same", "text/plain")
    await desk.publish(queue, b"same", "text/plain")
    messages = desk.peek(queue)
    assert await take(messages, 2) == ["same", "same"]
    await messages.aclose()  # type: ignore[attr-defined]  # as above


async def test_a_queue_that_is_not_there_is_said(broker: str) -> None:
    desk = Desk(lambda: broker)
    with pytest.raises(BrokerError, match="no queue"):
        await desk.publish(unique(), b"", "text/plain")
    with pytest.raises(BrokerError, match="no queue"):
        await anext(desk.peek(unique()))


async def test_a_broker_that_is_away_is_said() -> None:
    with pytest.raises(BrokerError, match="no broker listens"):
        await Desk(lambda: "amqp://127.0.0.1:1/").publish("q", b"", "text/plain")


async def test_a_long_body_is_cut_and_bytes_that_are_no_text_are_shown(broker: str, queue: str) -> None:
    desk = Desk(lambda: broker)
    await desk.publish(queue, b"\xff" + b"x" * 40_000, "application/octet-stream")
    messages = desk.peek(queue)
    async with asyncio.timeout(20):
        message = await anext(messages)
    await messages.aclose()  # type: ignore[attr-defined]  # as above
    assert message.body.startswith("\\xffxxx")
    assert len(message.body) < 20_000
    assert message.size == 40_001

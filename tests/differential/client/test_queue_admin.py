"""What a person does with a queue: over a real RabbitMQ and over the embedded broker alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from pamqp.commands import Basic

import msctl.amqp.queue_admin as desk_module
from msctl.amqp.connection import Connection, closing
from msctl.amqp.consumer import Consumer
from msctl.amqp.publisher import Publisher
from msctl.amqp.queue_admin import QueueAdmin
from msctl.amqp.queues import count, declare
from msctl.amqp.url import parse_url
from msctl.broker.server import BrokerServer
from msctl.clock import SystemClock
from msctl.errors import BrokerError
from msctl.model.messaging import OutgoingMessage
from msctl.model.queue_messages import PEEK_MESSAGES, PeekedMessage
from tests.support.rabbitmq import unique


@dataclass(frozen=True)
class Held:
    """A broker's URL, and a desk at it."""

    url: str
    desk: QueueAdmin


@pytest.fixture
async def embedded() -> AsyncIterator[Held]:
    server = BrokerServer(clock=SystemClock(asyncio.sleep), log=lambda *_: None, vhosts=("/",))
    host, port = await server.start("127.0.0.1", 0)
    url = f"amqp://guest:guest@{host}:{port}/"
    yield Held(url, QueueAdmin(lambda: url, server.browse))
    await server.stop()


@pytest.fixture(params=["looked into", "taken and put back", "rabbitmq"])
async def held(request: pytest.FixtureRequest, embedded: Held) -> Held:
    """Each kind of broker, in each way to browse at its queues."""
    if request.param == "rabbitmq":
        url: str = request.getfixturevalue("rabbitmq")
        return Held(url, QueueAdmin(lambda: url))
    return (
        embedded if request.param == "looked into" else Held(embedded.url, QueueAdmin(lambda: embedded.url))
    )


@pytest.fixture
def broker(held: Held) -> str:
    return held.url


@pytest.fixture
def desk(held: Held) -> QueueAdmin:
    return held.desk


@pytest.fixture
async def queue(broker: str) -> AsyncIterator[str]:
    name = unique()
    async with closing(await Connection.open(parse_url(broker), name="test")) as connection:
        await declare(connection, name, notify=lambda _: None)
        yield name
        await connection.ask((await connection.channel()).queue_delete(name))


async def ready(broker: str, queue: str) -> int:
    async with closing(await Connection.open(parse_url(broker), name="test")) as connection:
        return (await count(connection, queue)).ready


async def take(messages: AsyncIterator[PeekedMessage], number: int) -> list[str]:
    async with asyncio.timeout(60):
        return [(await anext(messages)).body for _ in range(number)]


async def test_a_published_message_is_in_its_queue(desk: QueueAdmin, queue: str) -> None:
    await desk.publish(OutgoingMessage("", queue, b"hello", "text/x-test"))
    messages = desk.peek(queue)
    async with asyncio.timeout(60):
        message = await anext(messages)
    await messages.aclose()  # type: ignore[attr-defined]  # an async generator
    assert (message.body, message.size, message.content_type) == ("hello", 5, "text/x-test")
    assert message.routing_key == queue


async def test_looking_takes_nothing_and_keeps_the_order(broker: str, desk: QueueAdmin, queue: str) -> None:
    for text in (b"one", b"two", b"three"):
        await desk.publish(OutgoingMessage("", queue, text, "text/plain"))
    messages = desk.peek(queue)
    assert await take(messages, 3) == ["one", "two", "three"]
    await desk.publish(OutgoingMessage("", queue, b"four", "text/plain"))
    assert await take(messages, 1) == ["four"]
    await messages.aclose()  # type: ignore[attr-defined]  # as above
    assert await ready(broker, queue) == 4
    again = desk.peek(queue)
    assert await take(again, 4) == ["one", "two", "three", "four"]
    await again.aclose()  # type: ignore[attr-defined]  # as above


async def test_messages_that_are_alike_are_each_shown(desk: QueueAdmin, queue: str) -> None:
    await desk.publish(OutgoingMessage("", queue, b"same", "text/plain"))
    await desk.publish(OutgoingMessage("", queue, b"same", "text/plain"))
    messages = desk.peek(queue)
    assert await take(messages, 2) == ["same", "same"]
    await messages.aclose()  # type: ignore[attr-defined]  # as above


async def test_a_queue_that_is_not_there_is_said(desk: QueueAdmin) -> None:
    with pytest.raises(BrokerError, match="no queue"):
        await desk.publish(OutgoingMessage("", unique(), b"", "text/plain"))
    with pytest.raises(BrokerError, match="no queue"):
        await anext(desk.peek(unique()))


async def test_a_broker_that_is_away_is_said() -> None:
    with pytest.raises(BrokerError, match="no broker listens"):
        await QueueAdmin(lambda: "amqp://127.0.0.1:1/").publish(OutgoingMessage("", "q", b"", "text/plain"))


async def test_a_long_body_is_cut_and_bytes_that_are_no_text_are_shown(desk: QueueAdmin, queue: str) -> None:
    await desk.publish(OutgoingMessage("", queue, b"\xff" + b"x" * 40_000, "application/octet-stream"))
    messages = desk.peek(queue)
    async with asyncio.timeout(60):
        message = await anext(messages)
    await messages.aclose()  # type: ignore[attr-defined]  # as above
    assert message.body.startswith("\\xffxxx")
    assert len(message.body) < 20_000
    assert message.size == 40_001


async def consumed(connection: Connection, queue: str, number: int) -> list[tuple[str, bool]]:
    """What a consumer gets of a queue, and whether the broker says that it was out before."""
    consumer = await Consumer.open(connection, queue, prefetch=5, limit=number)
    taken: list[tuple[str, bool]] = []
    async with asyncio.timeout(60):
        while len(taken) < number:
            found = await consumer.take()
            await consumer.mark_done(len(found))
            taken += [(delivery.body.decode(), delivery.redelivered) for delivery in found]
    await consumer.finish()
    return taken


@asynccontextmanager
async def filled(held: Held, texts: Sequence[str]) -> AsyncIterator[tuple[Connection, str]]:
    """A connection, and a new queue with these messages in it."""
    async with closing(await Connection.open(parse_url(held.url), name="test")) as connection:
        queue = unique()
        await declare(connection, queue, notify=lambda _: None)
        publisher = await Publisher.open(connection)
        template = publisher.template(Basic.Properties(), exchange="", routing_key=queue)
        for text in texts:
            await publisher.publish_nowait(template, text.encode())
        await publisher.drain()
        await publisher.close()
        yield connection, queue


async def test_a_consumer_after_a_look_finds_the_queue_as_it_was(embedded: Held) -> None:
    async with filled(embedded, ["one", "two", "three"]) as (connection, queue):
        messages = embedded.desk.peek(queue)
        assert await take(messages, 3) == ["one", "two", "three"]
        await messages.aclose()  # type: ignore[attr-defined]  # as above
        assert await consumed(connection, queue, 3) == [("one", False), ("two", False), ("three", False)]


async def test_a_consumer_that_competes_with_looks_gets_each_message_once_and_in_order(
    embedded: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "BROWSE_EVERY", 0)
    texts = [str(number) for number in range(1000)]
    seen: list[str] = []

    async def watch(messages: AsyncIterator[PeekedMessage]) -> None:
        async for message in messages:
            seen.append(message.body)
            assert not message.redelivered

    async with filled(embedded, texts) as (connection, queue):
        watching = asyncio.create_task(watch(embedded.desk.peek(queue)))
        assert await consumed(connection, queue, len(texts)) == [(text, False) for text in texts]
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
    assert len(seen) > PEEK_MESSAGES, "it has looked while messages were taken"
    assert seen == sorted(set(seen), key=int)

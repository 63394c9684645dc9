"""The brokers seen through a client library that people use: aio-pika, as a normal program would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from aiormq.exceptions import ChannelPreconditionFailed, DeliveryError

from tests.support.broker import Broker
from tests.support.rabbitmq import unique


@pytest.fixture
async def client(broker: Broker) -> AsyncIterator[aio_pika.abc.AbstractConnection]:
    async with await aio_pika.connect(broker.url) as connection:
        yield connection


async def test_hello_world(client: aio_pika.abc.AbstractConnection) -> None:
    channel = await client.channel()
    queue = await channel.declare_queue(unique("hello"), auto_delete=True)
    await channel.default_exchange.publish(
        aio_pika.Message(b"Hello, World!", content_type="text/plain"), queue.name
    )
    async with queue.iterator(no_ack=True) as messages:
        async for message in messages:
            assert (message.body, message.content_type) == (b"Hello, World!", "text/plain")
            break


async def test_work_is_shared_among_workers_that_ack(client: aio_pika.abc.AbstractConnection) -> None:
    channel = await client.channel()
    queue = await channel.declare_queue(exclusive=True)
    done: dict[str, list[bytes]] = {"a": [], "b": []}
    finished = asyncio.Event()

    async def work_as(name: str) -> None:
        worker = await client.channel()
        await worker.set_qos(1)

        async def work(message: AbstractIncomingMessage) -> None:
            async with message.process():
                done[name].append(message.body)
            if sum(map(len, done.values())) == 20:
                finished.set()

        await (await worker.get_queue(queue.name)).consume(work)

    for name in done:
        await work_as(name)
    for number in range(20):
        await channel.default_exchange.publish(aio_pika.Message(b"%d" % number), queue.name)
    await asyncio.wait_for(finished.wait(), 60)
    assert sorted(done["a"] + done["b"]) == sorted(b"%d" % number for number in range(20))
    assert done["a"] and done["b"]


async def test_unroutable_message_is_an_error_for_who_asks(client: aio_pika.abc.AbstractConnection) -> None:
    channel = await client.channel(on_return_raises=True)
    with pytest.raises(DeliveryError):
        await channel.default_exchange.publish(aio_pika.Message(b"x"), unique("nobody"))


async def test_redeclaring_differently_is_an_error_and_a_new_channel_works(
    client: aio_pika.abc.AbstractConnection,
) -> None:
    channel = await client.channel()
    queue = await channel.declare_queue(unique(), auto_delete=True)
    with pytest.raises(ChannelPreconditionFailed, match="inequivalent arg 'durable'"):
        await channel.declare_queue(queue.name, durable=True, auto_delete=True)
    again = await (await client.channel()).get_queue(queue.name)
    assert again.declaration_result.message_count == 0
    await again.delete()


async def test_remote_procedure_call(client: aio_pika.abc.AbstractConnection) -> None:
    server_channel, client_channel = await client.channel(), await client.channel()
    requests = await server_channel.declare_queue(exclusive=True)

    async def double(message: AbstractIncomingMessage) -> None:
        async with message.process():
            assert message.reply_to is not None
            await server_channel.default_exchange.publish(
                aio_pika.Message(message.body * 2, correlation_id=message.correlation_id), message.reply_to
            )

    await requests.consume(double)
    answers: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    replies = await client_channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
    await replies.consume(answers.put, no_ack=True)
    await client_channel.default_exchange.publish(
        aio_pika.Message(b"ab", correlation_id="1", reply_to="amq.rabbitmq.reply-to"), requests.name
    )
    answer = await asyncio.wait_for(answers.get(), 60)
    assert (answer.body, answer.correlation_id) == (b"abab", "1")


async def test_logs_by_topic(client: aio_pika.abc.AbstractConnection) -> None:
    channel = await client.channel()
    exchange = await channel.declare_exchange(unique("logs"), aio_pika.ExchangeType.TOPIC, auto_delete=True)
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(exchange, "*.error")
    for key in ("shop.error", "shop.info", "users.error"):
        await exchange.publish(aio_pika.Message(key.encode()), key, mandatory=False)
    assert [(await queue.get(no_ack=True)).body for _ in range(2)] == [b"shop.error", b"users.error"]
    assert await queue.get(no_ack=True, fail=False) is None


async def test_transaction_that_fails_publishes_nothing(client: aio_pika.abc.AbstractConnection) -> None:
    channel = await client.channel(publisher_confirms=False)
    queue = await channel.declare_queue(exclusive=True)
    with pytest.raises(ZeroDivisionError):
        async with channel.transaction():
            await channel.default_exchange.publish(aio_pika.Message(b"x"), queue.name)
            raise ZeroDivisionError
    assert await queue.get(fail=False) is None

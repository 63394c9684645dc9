"""A consumer keeps order, takes no more than it may, and gives back what was not dealt with."""

from __future__ import annotations

import asyncio

import pytest
from pamqp.commands import Basic

from msctl.amqp.connection import Connection
from msctl.amqp.consumer import AckMode, Consumer
from msctl.amqp.errors import BrokerAwayError, BrokerRefusedError
from msctl.amqp.publisher import Publisher
from msctl.amqp.queues import count
from msctl.amqp.url import BrokerUrl, parse_url
from tests.support.proxy import proxy
from tests.support.rabbitmq import unique


async def fill(connection: Connection, queue: str, number: int) -> list[bytes]:
    publisher = await Publisher.open(connection)
    template = publisher.template(Basic.Properties(), exchange="", routing_key=queue)
    bodies = [b"%d" % n for n in range(number)]
    for body in bodies:
        await publisher.publish_nowait(template, body)
    await publisher.drain()
    await publisher.close()
    return bodies


async def take(consumer: Consumer, number: int) -> list[bytes]:
    """Exactly `number` messages, none of them dealt with."""
    bodies: list[bytes] = []
    while len(bodies) < number:
        bodies += [delivery.body for delivery in await consumer.take()]
    return bodies


async def test_messages_come_in_the_order_in_which_they_were_sent(connection: Connection, queue: str) -> None:
    bodies = await fill(connection, queue, 2000)
    consumer = await Consumer.open(connection, queue, prefetch=300)
    got: list[bytes] = []
    while len(got) < len(bodies):
        taken = await consumer.take()
        got += [delivery.body for delivery in taken]
        await consumer.mark_done(len(taken))
    await consumer.finish()
    assert got == bodies
    assert (await count(connection, queue)).ready == 0


async def test_what_was_not_dealt_with_goes_back_in_its_place(connection: Connection, queue: str) -> None:
    bodies = await fill(connection, queue, 10)
    consumer = await Consumer.open(connection, queue)
    await take(consumer, 10)
    await consumer.mark_done(4)
    await consumer.finish()
    assert (await count(connection, queue)).ready == 6
    again = await Consumer.open(connection, queue)
    assert await take(again, 6) == bodies[4:]
    await again.finish()


async def test_a_redelivered_message_says_so(connection: Connection, queue: str) -> None:
    await fill(connection, queue, 1)
    for expected in (False, True):
        consumer = await Consumer.open(connection, queue)
        (delivery,) = await consumer.take()
        assert delivery.redelivered is expected
        assert (delivery.exchange, delivery.routing_key) == ("", queue)
        await consumer.finish()


@pytest.mark.parametrize(("limit", "prefetch"), [(5, 1000), (7, 3), (10, 1), (12, 12)])
async def test_no_more_than_the_limit_ever_leaves_the_queue(
    connection: Connection, queue: str, limit: int, prefetch: int
) -> None:
    await fill(connection, queue, 20)
    consumer = await Consumer.open(connection, queue, prefetch=prefetch, limit=limit)
    got = 0
    while got < limit:
        taken = await consumer.take()
        got += len(taken)
        await consumer.mark_done(len(taken))
    # Everything was dealt with: if the broker could send more, it would be on its way by now.
    assert (await count(connection, queue)).ready == 20 - limit
    await consumer.finish()
    assert got == limit
    assert (await count(connection, queue)).ready == 20 - limit


async def test_a_full_consumer_gets_nothing_more_before_it_settles(
    connection: Connection, queue: str
) -> None:
    await fill(connection, queue, 10)
    consumer = await Consumer.open(connection, queue, prefetch=4, mode=AckMode.REQUEUE)
    await take(consumer, 4)
    await consumer.mark_done(4)
    assert consumer.is_full
    assert (await count(connection, queue)).ready == 6
    await consumer.finish()
    assert (await count(connection, queue)).ready == 10


async def test_rejected_messages_are_gone(connection: Connection, queue: str) -> None:
    await fill(connection, queue, 3)
    consumer = await Consumer.open(connection, queue, mode=AckMode.REJECT)
    await take(consumer, 3)
    await consumer.mark_done(2)
    await consumer.finish()
    assert (await count(connection, queue)).ready == 1


async def test_requeued_messages_are_seen_once_and_stay_in_order(connection: Connection, queue: str) -> None:
    bodies = await fill(connection, queue, 5)
    for _ in range(2):
        consumer = await Consumer.open(connection, queue, mode=AckMode.REQUEUE)
        assert await take(consumer, 5) == bodies
        await consumer.mark_done(5)
        await consumer.finish()
    assert (await count(connection, queue)).ready == 5


async def test_a_queue_is_empty_only_when_nothing_is_on_its_way(connection: Connection, queue: str) -> None:
    for _ in range(20):
        await fill(connection, queue, 1)
        consumer = await Consumer.open(connection, queue)
        if not consumer.at_hand:
            assert not await consumer.is_empty()
        assert await take(consumer, 1) == [b"0"]
        await consumer.mark_done(1)
        assert await consumer.is_empty()
        await consumer.finish()


async def test_a_deleted_queue_ends_its_consumer_with_words(connection: Connection) -> None:
    name = unique()
    channel = await connection.channel()
    await connection.ask(channel.queue_declare(name))
    consumer = await Consumer.open(connection, name)
    waiting = asyncio.create_task(consumer.take())
    await connection.ask(channel.queue_delete(name))
    with pytest.raises(BrokerRefusedError, match=f"queue '{name}' was deleted"):
        await waiting
    await consumer.finish()


async def test_an_absent_queue_is_refused(connection: Connection) -> None:
    with pytest.raises(BrokerRefusedError) as failed:
        await Consumer.open(connection, unique())
    assert failed.value.code == 404


async def test_a_lost_connection_ends_the_consumer_and_loses_no_message(
    connection: Connection, url: BrokerUrl, queue: str
) -> None:
    bodies = await fill(connection, queue, 6)
    async with proxy(url.host, url.port) as between:
        far = await Connection.open(
            parse_url(f"amqp://guest:guest@127.0.0.1:{between.listen_port}/"), name="test"
        )
        consumer = await Consumer.open(far, queue)
        assert await take(consumer, 6) == bodies
        await consumer.mark_done(2)
        assert await consumer.is_empty()  # the acknowledgement has arrived
        await between.cut()
        with pytest.raises(BrokerAwayError, match="was lost"):
            await consumer.take()
        await consumer.finish()
        await far.close()
    again = await Consumer.open(connection, queue)
    assert await take(again, 4) == bodies[2:]
    await again.finish()

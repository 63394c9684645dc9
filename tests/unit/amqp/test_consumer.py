"""A consumer keeps order, takes no more than it may, and gives back what was not dealt with."""

from __future__ import annotations

import asyncio

import pytest
from pamqp.commands import Basic

from msctl.amqp.connection import Link
from msctl.amqp.consumer import Consumer, Settlement
from msctl.amqp.errors import BrokerAwayError, BrokerRefusedError
from msctl.amqp.publisher import Publisher
from msctl.amqp.queues import count
from msctl.amqp.url import BrokerUrl, parse_url
from tests.support.proxy import proxy
from tests.support.rabbitmq import unique


async def fill(link: Link, queue: str, number: int) -> list[bytes]:
    publisher = await Publisher.open(link)
    template = publisher.template(Basic.Properties(), exchange="", routing_key=queue)
    bodies = [b"%d" % n for n in range(number)]
    for body in bodies:
        await publisher.put(template, body)
    await publisher.drain()
    await publisher.close()
    return bodies


async def take(consumer: Consumer, number: int) -> list[bytes]:
    """Exactly `number` messages, none of them dealt with."""
    bodies: list[bytes] = []
    while len(bodies) < number:
        bodies += [delivery.body for delivery in await consumer.take()]
    return bodies


async def test_messages_come_in_the_order_in_which_they_were_sent(link: Link, queue: str) -> None:
    bodies = await fill(link, queue, 2000)
    consumer = await Consumer.open(link, queue, prefetch=300)
    got: list[bytes] = []
    while len(got) < len(bodies):
        taken = await consumer.take()
        got += [delivery.body for delivery in taken]
        await consumer.settle(len(taken))
    await consumer.finish()
    assert got == bodies
    assert (await count(link, queue)).ready == 0


async def test_what_was_not_dealt_with_goes_back_in_its_place(link: Link, queue: str) -> None:
    bodies = await fill(link, queue, 10)
    consumer = await Consumer.open(link, queue)
    await take(consumer, 10)
    await consumer.settle(4)
    await consumer.finish()
    assert (await count(link, queue)).ready == 6
    again = await Consumer.open(link, queue)
    assert await take(again, 6) == bodies[4:]
    await again.finish()


async def test_a_redelivered_message_says_so(link: Link, queue: str) -> None:
    await fill(link, queue, 1)
    for expected in (False, True):
        consumer = await Consumer.open(link, queue)
        (delivery,) = await consumer.take()
        assert delivery.redelivered is expected
        assert (delivery.exchange, delivery.routing_key) == ("", queue)
        await consumer.finish()


@pytest.mark.parametrize(("limit", "prefetch"), [(5, 1000), (7, 3), (10, 1), (12, 12)])
async def test_no_more_than_the_limit_ever_leaves_the_queue(
    link: Link, queue: str, limit: int, prefetch: int
) -> None:
    await fill(link, queue, 20)
    consumer = await Consumer.open(link, queue, prefetch=prefetch, limit=limit)
    got = 0
    while got < limit:
        taken = await consumer.take()
        got += len(taken)
        await consumer.settle(len(taken))
    # Everything was dealt with: if the broker could send more, it would be on its way by now.
    assert (await count(link, queue)).ready == 20 - limit
    await consumer.finish()
    assert got == limit
    assert (await count(link, queue)).ready == 20 - limit


async def test_a_full_consumer_gets_nothing_more_before_it_settles(link: Link, queue: str) -> None:
    await fill(link, queue, 10)
    consumer = await Consumer.open(link, queue, prefetch=4, how=Settlement.REQUEUE)
    await take(consumer, 4)
    await consumer.settle(4)
    assert consumer.is_full
    assert (await count(link, queue)).ready == 6
    await consumer.finish()
    assert (await count(link, queue)).ready == 10


async def test_rejected_messages_are_gone(link: Link, queue: str) -> None:
    await fill(link, queue, 3)
    consumer = await Consumer.open(link, queue, how=Settlement.REJECT)
    await take(consumer, 3)
    await consumer.settle(2)
    await consumer.finish()
    assert (await count(link, queue)).ready == 1


async def test_requeued_messages_are_seen_once_and_stay_in_order(link: Link, queue: str) -> None:
    bodies = await fill(link, queue, 5)
    for _ in range(2):
        consumer = await Consumer.open(link, queue, how=Settlement.REQUEUE)
        assert await take(consumer, 5) == bodies
        await consumer.settle(5)
        await consumer.finish()
    assert (await count(link, queue)).ready == 5


async def test_a_queue_is_empty_only_when_nothing_is_on_its_way(link: Link, queue: str) -> None:
    for _ in range(20):
        await fill(link, queue, 1)
        consumer = await Consumer.open(link, queue)
        if not consumer.at_hand:
            assert not await consumer.is_empty()
        assert await take(consumer, 1) == [b"0"]
        await consumer.settle(1)
        assert await consumer.is_empty()
        await consumer.finish()


async def test_a_deleted_queue_ends_its_consumer_with_words(link: Link) -> None:
    name = unique()
    channel = await link.channel()
    await link.ask(channel.queue_declare(name))
    consumer = await Consumer.open(link, name)
    waiting = asyncio.create_task(consumer.take())
    await link.ask(channel.queue_delete(name))
    with pytest.raises(BrokerRefusedError, match=f"queue '{name}' was deleted"):
        await waiting
    await consumer.finish()


async def test_an_absent_queue_is_refused(link: Link) -> None:
    with pytest.raises(BrokerRefusedError) as failed:
        await Consumer.open(link, unique())
    assert failed.value.code == 404


async def test_a_lost_connection_ends_the_consumer_and_loses_no_message(
    link: Link, url: BrokerUrl, queue: str
) -> None:
    bodies = await fill(link, queue, 6)
    async with proxy(url.host, url.port) as between:
        far = await Link.open(parse_url(f"amqp://guest:guest@127.0.0.1:{between.listen_port}/"), name="test")
        consumer = await Consumer.open(far, queue)
        assert await take(consumer, 6) == bodies
        await consumer.settle(2)
        assert await consumer.is_empty()  # the acknowledgement has arrived
        await between.cut()
        with pytest.raises(BrokerAwayError, match="was lost"):
            await consumer.take()
        await consumer.finish()
        await far.close()
    again = await Consumer.open(link, queue)
    assert await take(again, 4) == bodies[2:]
    await again.finish()

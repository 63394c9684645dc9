"""Every message has its place in the stats: confirmed, refused with its number, or unknown."""

from __future__ import annotations

import asyncio

import pytest
from pamqp.commands import Basic

from msctl.amqp.connection import Connection
from msctl.amqp.consumer import Consumer
from msctl.amqp.errors import BrokerAwayError, BrokerRefusedError
from msctl.amqp.frames import PublishTemplate
from msctl.amqp.publisher import MAX_BODY, Publisher, RefusedMessage
from msctl.amqp.queues import count
from msctl.amqp.url import BrokerUrl, parse_url
from msctl.errors import MsctlError, TimedOutError, UsageError
from tests.support.fake_broker import fake_broker, limited, nack, silence
from tests.support.proxy import proxy
from tests.support.rabbitmq import unique


def to_queue(publisher: Publisher, queue: str, message_id: str | None = None) -> PublishTemplate:
    return publisher.template(Basic.Properties(message_id=message_id), exchange="", routing_key=queue)


async def bodies_of(connection: Connection, queue: str, number: int) -> list[bytes]:
    consumer = await Consumer.open(connection, queue, limit=number)
    bodies: list[bytes] = []
    while len(bodies) < number:
        taken = await consumer.take()
        bodies += [delivery.body for delivery in taken]
        await consumer.mark_done(len(taken))
    await consumer.finish()
    return bodies


async def test_many_are_under_way_at_once_and_arrive_in_order(connection: Connection, queue: str) -> None:
    publisher = await Publisher.open(connection, window=50)
    template = to_queue(publisher, queue)
    bodies = [b"%d" % number for number in range(500)]
    for body in bodies:
        await publisher.publish_nowait(template, body)
    await publisher.drain()
    stats = publisher.stats()
    await publisher.close()
    assert (stats.sent, stats.confirmed, stats.refused, stats.unconfirmed) == (500, 500, 0, ())
    assert await bodies_of(connection, queue, 500) == bodies


async def test_the_window_is_never_exceeded(connection: Connection, queue: str) -> None:
    publisher = await Publisher.open(connection, window=3)
    template = to_queue(publisher, queue)
    most = 0
    for _ in range(20):
        await publisher.publish_nowait(template, b"x")
        most = max(most, len(publisher.stats().unconfirmed))
    await publisher.close()
    assert most == 3


async def test_large_bodies_wait_for_room_in_bytes(connection: Connection, queue: str) -> None:
    publisher = await Publisher.open(connection, window_bytes=1000)
    template = to_queue(publisher, queue)
    for size in (900, 900, 5000, 10):
        await publisher.publish_nowait(template, b"x" * size)
        assert len(publisher.stats().unconfirmed) == 1
    await publisher.drain()
    await publisher.close()


async def test_a_body_of_many_frames_arrives_whole(connection: Connection, queue: str) -> None:
    publisher = await Publisher.open(connection)
    body = bytes(range(256)) * 2000
    await publisher.publish(to_queue(publisher, queue), body)
    await publisher.close()
    assert await bodies_of(connection, queue, 1) == [body]


async def test_a_message_that_no_queue_takes_raises(connection: Connection) -> None:
    publisher = await Publisher.open(connection)
    with pytest.raises(BrokerRefusedError, match="routing key 'nowhere' matches no queue") as failed:
        await publisher.publish(to_queue(publisher, "nowhere"), b"x")
    assert failed.value.code == 312
    await publisher.close()


async def test_returned_messages_are_named_among_confirmed_ones(connection: Connection, queue: str) -> None:
    publisher = await Publisher.open(connection)
    good, bad = to_queue(publisher, queue), to_queue(publisher, "nowhere")
    for template in (good, good, bad, good, bad):
        await publisher.publish_nowait(template, b"x")
    await publisher.drain()
    stats = publisher.stats()
    await publisher.close()
    assert (stats.confirmed, stats.refused) == (3, 2)
    assert stats.refusals == (
        RefusedMessage(3, "routing key 'nowhere' matches no queue at the default exchange"),
        RefusedMessage(5, "routing key 'nowhere' matches no queue at the default exchange"),
    )


async def test_a_message_id_that_all_share_does_not_hide_a_return(connection: Connection, queue: str) -> None:
    publisher = await Publisher.open(connection)
    good, bad = to_queue(publisher, queue, "same"), to_queue(publisher, "nowhere", "same")
    for template in (bad, good, good, bad):
        await publisher.publish_nowait(template, b"x")
    await publisher.drain()
    stats = publisher.stats()
    await publisher.close()
    assert stats.confirmed == 2
    assert [refusal.number for refusal in stats.refusals] == [1, 4]


async def test_a_channel_that_ends_leaves_an_exact_account(connection: Connection, queue: str) -> None:
    publisher = await Publisher.open(connection)
    for _ in range(3):
        await publisher.publish(to_queue(publisher, queue), b"x")
    lost = publisher.template(Basic.Properties(), exchange="no-such-exchange", routing_key="k")
    for _ in range(2):
        await publisher.publish_nowait(lost, b"x")
    with pytest.raises(BrokerRefusedError, match="no exchange 'no-such-exchange'"):
        await publisher.drain()
    with pytest.raises(BrokerRefusedError, match="no exchange"):
        await publisher.publish_nowait(to_queue(publisher, queue), b"x")
    stats = publisher.stats()
    await publisher.close()
    assert (stats.sent, stats.confirmed, stats.unconfirmed) == (5, 3, (4, 5))
    assert (await count(connection, queue)).ready == 3


async def test_a_body_over_the_brokers_limit_is_refused_alone() -> None:
    async with fake_broker(limited(2000)) as broker:
        connection = await Connection.open(parse_url(broker.url), name="test")
        publisher = await Publisher.open(connection, window_bytes=1000)
        template = to_queue(publisher, "q")
        for size in (10, 10, 10, 10, 2001):
            await publisher.publish_nowait(template, b"x" * size)
        with pytest.raises(BrokerRefusedError, match="larger than configured max size 2000"):
            await publisher.drain()
        stats = publisher.stats()
        await publisher.close()
        await connection.close()
    assert (stats.confirmed, stats.refused, stats.unconfirmed) == (4, 1, ())
    assert stats.refusals == (RefusedMessage(5, "message size 2001 is larger than configured max size 2000"),)


async def test_a_nack_is_a_refusal() -> None:
    async with fake_broker(nack) as broker:
        connection = await Connection.open(parse_url(broker.url), name="test")
        publisher = await Publisher.open(connection)
        with pytest.raises(BrokerRefusedError, match="nack"):
            await publisher.publish(to_queue(publisher, "q"), b"x")
        await publisher.close()
        await connection.close()


async def test_a_missing_confirm_times_out_and_stays_unknown() -> None:
    async with fake_broker(silence) as broker:
        connection = await Connection.open(parse_url(broker.url), name="test")
        publisher = await Publisher.open(connection, timeout=0.1)
        with pytest.raises(TimedOutError, match=r"did not confirm anything for 0\.1 s"):
            await publisher.publish(to_queue(publisher, "q"), b"x")
        with pytest.raises(TimedOutError):
            await publisher.drain()
        assert publisher.stats().unconfirmed == (1,)
        await publisher.close()
        await connection.close()


async def test_a_broker_that_blocks_publishers_is_said_to() -> None:
    async with fake_broker(silence) as broker:
        broker.blocks = True
        connection = await Connection.open(parse_url(broker.url), name="test")
        publisher = await Publisher.open(connection, timeout=0.1)
        with pytest.raises(TimedOutError, match="blocks publishers: it is low on memory"):
            await publisher.publish(to_queue(publisher, "q"), b"x")
        await publisher.close()
        await connection.close()


async def test_what_was_under_way_when_the_connection_is_lost_is_unknown(url: BrokerUrl, queue: str) -> None:
    async with proxy(url.host, url.port) as between:
        far = parse_url(f"amqp://guest:guest@127.0.0.1:{between.listen_port}/")
        connection = await Connection.open(far, name="test")
        publisher = await Publisher.open(connection)
        template = to_queue(publisher, queue)
        await publisher.publish(template, b"x")
        between.freeze()
        waiting = asyncio.create_task(publisher.publish(template, b"y"))
        await asyncio.sleep(0)
        await publisher.publish_nowait(template, b"z")
        await between.cut()
        with pytest.raises(BrokerAwayError, match="was lost"):
            await waiting
        assert isinstance(await publisher.failed(), BrokerAwayError)
        stats = publisher.stats()
        await publisher.close()
        await connection.close()
    assert (stats.sent, stats.confirmed, stats.unconfirmed) == (3, 1, (2, 3))


async def test_without_confirms_everything_is_handed_over_before_drain_returns(
    connection: Connection, queue: str
) -> None:
    publisher = await Publisher.open(connection, confirms=False)
    template = to_queue(publisher, queue)
    for _ in range(300):
        await publisher.publish_nowait(template, b"x")
    await publisher.drain()
    stats = publisher.stats()
    await publisher.close()
    assert (stats.sent, stats.confirmed, stats.unconfirmed) == (300, 0, ())
    assert (await count(connection, queue)).ready == 300


async def test_without_confirms_the_end_of_the_channel_is_still_heard(connection: Connection) -> None:
    publisher = await Publisher.open(connection, confirms=False)
    lost = publisher.template(Basic.Properties(), exchange="no-such-exchange", routing_key="k")
    await publisher.publish_nowait(lost, b"x")
    with pytest.raises(MsctlError, match="no exchange"):
        await publisher.drain()
    await publisher.close()


async def test_concurrent_publishers_each_get_their_own_answer(connection: Connection, queue: str) -> None:
    publisher = await Publisher.open(connection, window=4)
    good, bad = to_queue(publisher, queue), to_queue(publisher, unique("nowhere"))
    results = await asyncio.gather(
        *(publisher.publish(bad if number % 5 == 0 else good, b"x") for number in range(40)),
        return_exceptions=True,
    )
    await publisher.close()
    assert [isinstance(result, BrokerRefusedError) for result in results] == [n % 5 == 0 for n in range(40)]


async def test_a_message_that_cannot_be_encoded_is_a_usage_error(connection: Connection) -> None:
    publisher = await Publisher.open(connection)
    with pytest.raises(UsageError, match="a frame"):
        publisher.template(Basic.Properties(headers={"k": "v" * 200_000}), exchange="", routing_key="q")
    await publisher.close()


async def test_a_body_that_no_broker_takes_is_never_sent(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msctl.amqp.publisher.MAX_BODY", 10)
    publisher = await Publisher.open(connection)
    with pytest.raises(UsageError, match="exceeds RabbitMQ's maximum"):
        await publisher.publish_nowait(to_queue(publisher, "q"), b"x" * 11)
    assert publisher.stats().sent == 0
    assert MAX_BODY == 512 * 1024 * 1024
    await publisher.close()

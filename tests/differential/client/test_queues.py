"""The course's queue is there in the end, whatever the broker says, and the user is told once."""

from __future__ import annotations

import pytest
from pamqp.commands import Basic, Queue

from msctl.amqp.connection import Connection, closing
from msctl.amqp.consumer import Consumer
from msctl.amqp.errors import BrokerRefusedError
from msctl.amqp.publisher import Publisher
from msctl.amqp.queues import NotifyOnce, QueueUse, count, declare, open_with_queue, require_exchange
from msctl.amqp.url import BrokerUrl, parse_url
from msctl.errors import UsageError
from tests.support.fake_broker import fake_broker
from tests.support.rabbitmq import unique


def silent(text: str) -> None:
    raise AssertionError(f"nothing should be said, but: {text}")


async def test_a_new_queue_is_declared_as_the_course_does(connection: Connection) -> None:
    name = unique()
    found = await declare(connection, name, notify=silent)
    assert (found.name, found.ready, found.consumers) == (name, 0, 0)
    channel = await connection.channel()
    # RabbitMQ answers 406 where anything differs from these.
    await connection.ask(channel.queue_declare(name, durable=False, exclusive=False, auto_delete=False))
    await connection.ask(channel.queue_delete(name))


async def test_a_queue_of_another_kind_is_used_as_it_is_and_said_once(
    connection: Connection, url: BrokerUrl
) -> None:
    name = unique()
    channel = await connection.channel()
    await connection.ask(channel.queue_declare(name, durable=True))
    said: list[str] = []
    notify = NotifyOnce(said.append)
    for _ in range(2):
        other = await open_with_queue(url, name, name="test", notify=notify)
        assert (await count(other, name)).name == name
        await other.close()
    await connection.ask(channel.queue_delete(name))
    assert len(said) == 1
    assert f"queue '{name}' is used as it exists" in said[0]
    assert "inequivalent arg 'durable'" in said[0]


async def test_a_broker_without_transient_queues_gets_a_durable_one_and_it_is_said_once() -> None:
    said: list[str] = []
    notify = NotifyOnce(said.append)
    async with fake_broker() as broker:
        for _ in range(2):
            connection = await open_with_queue(parse_url(broker.url), "hello", name="test", notify=notify)
            await connection.close()
        assert broker.declared == [("hello", False), ("hello", True)] * 2
    assert said == ["this broker does not support transient queues: queue 'hello' is declared durable"]


async def test_a_queue_that_belongs_to_another_connection_is_refused(
    connection: Connection, url: BrokerUrl
) -> None:
    name = unique()
    channel = await connection.channel()
    await connection.ask(channel.queue_declare(name, exclusive=True))
    with pytest.raises(BrokerRefusedError) as failed:
        await open_with_queue(url, name, name="test", notify=silent)
    assert failed.value.code == 405


async def test_a_reserved_name_is_refused_with_the_brokers_words(connection: Connection) -> None:
    with pytest.raises(BrokerRefusedError, match=r"reserved prefix 'amq\.\*'"):
        await declare(connection, "amq.mine", notify=silent)


async def test_counting_an_absent_queue_is_a_404(connection: Connection) -> None:
    with pytest.raises(BrokerRefusedError) as failed:
        await count(connection, unique())
    assert failed.value.code == 404


async def test_an_exchange_is_looked_for_before_anything_is_sent(connection: Connection) -> None:
    await require_exchange(connection, "amq.fanout")
    with pytest.raises(BrokerRefusedError, match="no exchange 'nope'"):
        await require_exchange(connection, "nope")


async def test_no_queue_means_nothing_is_declared(url: BrokerUrl) -> None:
    connection = await open_with_queue(url, None, name="test", notify=silent)
    assert connection.is_open
    await connection.close()


@pytest.mark.parametrize("name", ["<x>", "a'b", "[bold]", "订单", "é", "a b%"])
async def test_queue_of_any_name_is_declared_published_to_and_consumed(url: BrokerUrl, name: str) -> None:
    name = f"{name}-{unique()}"
    connection = await open_with_queue(url, name, name="test", notify=lambda _text: None)
    async with closing(connection):
        publisher = await Publisher.open(connection)
        template = publisher.template(Basic.Properties(), exchange="", routing_key=name)
        await publisher.publish(template, b"hello")
        consumer = await Consumer.open(connection, name, limit=1)
        assert [delivery.body for delivery in await consumer.take()] == [b"hello"]
        await consumer.mark_done(1)
        await consumer.finish()
        assert (await count(connection, name)).ready == 0
        await publisher.close()
        channel = await connection.channel()
        await connection.ask(channel.rpc(QueueDelete(queue=name)))


class QueueDelete(Queue.Delete):
    """queue.delete for any name."""

    def validate(self) -> None:
        """Accept any name."""


async def test_exchange_of_any_name_is_looked_up(url: BrokerUrl) -> None:
    connection = await Connection.open(url, name="test")
    async with closing(connection):
        with pytest.raises(BrokerRefusedError, match="no exchange '<x>'"):
            await require_exchange(connection, "<x>")


async def test_name_too_long_for_amqp_is_a_usage_error(url: BrokerUrl) -> None:
    connection = await Connection.open(url, name="test")
    async with closing(connection):
        with pytest.raises(UsageError, match="cannot be encoded"):
            await count(connection, "x" * 256)


async def test_a_durable_queue_is_declared_and_a_transient_one_of_its_name_is_told_from_it(
    connection: Connection, url: BrokerUrl
) -> None:
    name = unique()
    said: list[str] = []
    channel = await connection.channel()
    for known in (False, True):
        other = await open_with_queue(url, QueueUse(name, durable=True, known=known), name="t", notify=silent)
        await other.close()
    await connection.ask(channel.queue_declare(name, durable=True))  # 406 if it is not durable
    await connection.ask(channel.queue_delete(name))
    await connection.ask(channel.queue_declare(name))
    other = await open_with_queue(url, QueueUse(name, durable=True), name="test", notify=said.append)
    await other.close()
    await connection.ask(channel.queue_delete(name))
    assert len(said) == 1
    assert "is not durable" in said[0]


async def test_persistent_messages_in_a_queue_that_ends_with_the_broker_are_said(url: BrokerUrl) -> None:
    said: list[str] = []
    name = unique()
    connection = await open_with_queue(url, QueueUse(name, persistent=True), name="test", notify=said.append)
    async with closing(connection):
        channel = await connection.channel()
        await connection.ask(channel.queue_delete(name))
    assert len(said) == 1
    assert "not durable" in said[0]


async def test_a_known_queue_that_is_gone_is_declared_again_and_said(url: BrokerUrl) -> None:
    said: list[str] = []
    name = unique()
    connection = await open_with_queue(url, QueueUse(name, known=True), name="test", notify=said.append)
    async with closing(connection):
        assert (await count(connection, name)).ready == 0
        channel = await connection.channel()
        await connection.ask(channel.queue_delete(name))
    assert len(said) == 1
    assert "declared again" in said[0]

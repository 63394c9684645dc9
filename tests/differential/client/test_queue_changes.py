"""What an operator does to queues works on both brokers, and loses no message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pamqp.commands import Basic

from msctl.amqp import queue_changes
from msctl.amqp.connection import Connection
from msctl.amqp.consumer import AckMode, Consumer
from msctl.amqp.errors import BrokerRefusedError
from msctl.amqp.publisher import Publisher
from msctl.amqp.queues import count
from msctl.errors import UsageError
from tests.support.rabbitmq import unique


@pytest.fixture
async def names(connection: Connection) -> AsyncIterator[tuple[str, str]]:
    """Two queues; the first one's dead letters go to the second."""
    first, second = unique("a"), unique("b")
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": second}
    await queue_changes.declare(connection, first, durable=False, arguments=dead)
    await queue_changes.declare(connection, second, durable=False, arguments={})
    yield first, second
    for name in (first, second):
        await queue_changes.delete(connection, name)


async def publish(connection: Connection, queue: str, *bodies: bytes, **properties: Any) -> None:
    publisher = await Publisher.open(connection)
    template = publisher.template(Basic.Properties(**properties), exchange="", routing_key=queue)
    for body in bodies:
        await publisher.publish_nowait(template, body)
    await publisher.drain()
    await publisher.close()


async def taken(connection: Connection, queue: str, number: int, mode: AckMode = AckMode.ACK) -> list[Any]:
    consumer = await Consumer.open(connection, queue, limit=number, mode=mode)
    found: list[Any] = []
    while len(found) < number:
        batch = await consumer.take()
        found += batch
        await consumer.mark_done(len(batch))
    await consumer.finish()
    return found


async def test_messages_move_in_order_with_their_properties(
    connection: Connection, names: tuple[str, str]
) -> None:
    first, second = names
    bodies = [b"%d" % n for n in range(1200)]
    await publish(connection, first, *bodies, correlation_id="7", headers={"k": "v"}, delivery_mode=2)
    moved = await queue_changes.move(connection, first, second, 1100)
    assert (moved.to, moved.left) == ({second: 1100}, 0)
    assert (await count(connection, first)).ready == 100
    found = await taken(connection, second, 1100)
    assert [one.body for one in found] == bodies[:1100]
    properties = found[0].properties
    assert (properties.correlation_id, properties.headers, properties.delivery_mode) == ("7", {"k": "v"}, 2)
    assert await queue_changes.purge(connection, first) == 100


async def test_dead_letters_return_to_where_they_died_and_others_stay(
    connection: Connection, names: tuple[str, str]
) -> None:
    first, second = names
    await publish(connection, first, b"dead", b"dead too", headers={"mine": "1"})
    await taken(connection, first, 2, AckMode.REJECT)
    await publish(connection, second, b"alive")
    moved = await queue_changes.requeue_dead(connection, second)
    assert (moved.to, moved.left) == ({first: 2}, 1)
    assert [one.body for one in await taken(connection, second, 1)] == [b"alive"]
    again = await taken(connection, first, 2)
    assert [one.body for one in again] == [b"dead", b"dead too"]
    assert again[0].properties.headers == {"mine": "1"}


async def test_a_queue_that_is_missing_changes_nothing(
    connection: Connection, names: tuple[str, str]
) -> None:
    first, _ = names
    await publish(connection, first, b"x")
    for work in (
        queue_changes.move(connection, first, unique()),
        queue_changes.delete(connection, unique()),
        queue_changes.purge(connection, unique()),
    ):
        with pytest.raises(BrokerRefusedError) as refused:
            await work
        assert refused.value.code == 404
    with pytest.raises(UsageError):
        await queue_changes.move(connection, first, first)
    assert (await count(connection, first)).ready == 1


async def test_a_queue_of_other_properties_is_refused(connection: Connection, names: tuple[str, str]) -> None:
    with pytest.raises(BrokerRefusedError) as refused:
        await queue_changes.declare(connection, names[0], durable=True, arguments={})
    assert refused.value.code == 406


async def test_a_binding_takes_messages_to_the_queue(connection: Connection, names: tuple[str, str]) -> None:
    first, _ = names
    name = unique()
    bindings = [("amq.topic", f"{first}.*")]
    await queue_changes.declare(connection, name, durable=False, arguments={}, bindings=bindings)
    publisher = await Publisher.open(connection)
    template = publisher.template(Basic.Properties(), exchange="amq.topic", routing_key=f"{first}.x")
    await publisher.publish(template, b"x")
    await publisher.close()
    assert await queue_changes.delete(connection, name) == 1


async def test_what_stays_between_moved_messages_is_not_lost(
    connection: Connection, names: tuple[str, str]
) -> None:
    first, second = names
    expected = []
    for number in range(12):
        if number % 3:
            await publish(connection, first, b"dead %d" % number, message_id=str(number))
            await taken(connection, first, 1, AckMode.REJECT)
        else:
            await publish(connection, second, b"alive %d" % number)
            expected.append(b"alive %d" % number)
    moved = await queue_changes.requeue_dead(connection, second)
    assert (moved.to, moved.left) == ({first: 8}, 4)
    assert [one.body for one in await taken(connection, second, 4)] == expected
    again = await taken(connection, first, 8)
    assert [one.properties.message_id for one in again] == ["1", "2", "4", "5", "7", "8", "10", "11"]


async def test_large_and_small_messages_move_in_order(connection: Connection, names: tuple[str, str]) -> None:
    first, second = names
    bodies = [b"%d" % n * (300_000 if n % 2 else 1) for n in range(40)]
    await publish(connection, first, *bodies)
    assert (await queue_changes.move(connection, first, second)).to == {second: 40}
    assert [one.body for one in await taken(connection, second, 40)] == bodies
    assert (await count(connection, first)).ready == 0

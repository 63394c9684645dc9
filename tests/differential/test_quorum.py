"""Queues of type quorum: their rules of declaration, delivery counts and limits, and what they refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pamqp import base, commands

from tests.support.amqp_probe import Channel, ChannelClosed, ConnectionClosed, Message, Probe, declare
from tests.support.rabbitmq import unique

QUORUM = {"x-queue-type": "quorum"}


class Quorum:
    """Declares quorum queues, which are durable, and deletes them in the end."""

    def __init__(self, connection: Probe) -> None:
        self._connection = connection
        self._names: list[str] = []

    async def declare(self, channel: Channel, **arguments: Any) -> str:
        name = unique("quorum")
        table = QUORUM | {key.replace("_", "-"): value for key, value in arguments.items()}
        await channel.declare(name, durable=True, arguments=table)
        self._names.append(name)
        return name

    async def delete_all(self) -> None:
        channel = await self._connection.channel()
        for name in self._names:
            await channel.delete(name)


@pytest.fixture
async def quorum(connect: Any) -> AsyncIterator[Quorum]:
    made = Quorum(await connect())
    yield made
    await made.delete_all()


def counted(message: Message) -> tuple[bytes, bool, Any]:
    return message.body, message.redelivered, message.headers.get("x-delivery-count")


async def dead_letter(channel: Channel, queue: str) -> Message:
    """The first message of a queue that a quorum queue fills in its own time."""
    async with asyncio.timeout(60):
        while (message := await channel.get(queue, no_ack=True)) is None:
            await asyncio.sleep(0.01)
    return message


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({}, "non-durable"),
        ({"exclusive": True}, "exclusive-owner"),
        ({"durable": True, "exclusive": True}, "exclusive-owner"),
        ({"durable": True, "auto_delete": True}, "auto-delete"),
    ],
)
async def test_only_a_durable_queue_for_all_can_be_a_quorum_queue(
    channel: Channel, properties: dict[str, bool], name: str
) -> None:
    queue = unique()
    closed = await channel.refused(declare(queue, arguments=QUORUM, **properties))
    text = f"PRECONDITION_FAILED - invalid property '{name}' for queue '{queue}' in vhost '/'"
    assert closed == ChannelClosed(406, text, 50, 10)


@pytest.mark.parametrize(
    ("argument", "value", "why"),
    [
        ("x-max-priority", 5, " of queue type rabbit_quorum_queue"),
        ("x-queue-mode", "lazy", " of queue type rabbit_quorum_queue"),
        ("x-queue-master-locator", "client-local", " of queue type rabbit_quorum_queue"),
        ("x-max-age", "1D", " of queue type rabbit_quorum_queue"),
        ("x-dead-letter-strategy", "twice", ": invalid_dlx_strategy"),
        ("x-quorum-initial-group-size", 0, ": {value_zero,0}"),
        ("x-queue-leader-locator", "there", ": invalid_queue_locator_arg"),
        ("x-dead-letter-routing-key", "k", ": routing_key_but_no_dlx_defined"),
    ],
)
async def test_argument_that_it_does_not_take_is_refused(
    channel: Channel, argument: str, value: object, why: str
) -> None:
    queue = unique()
    closed = await channel.refused(declare(queue, durable=True, arguments={**QUORUM, argument: value}))
    text = f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{queue}' in vhost '/'{why}"
    assert closed == ChannelClosed(406, text, 50, 10)


async def test_arguments_of_its_own_are_taken(channel: Channel, quorum: Quorum) -> None:
    for argument, value in (
        ("x_delivery_limit", 3),
        ("x_dead_letter_strategy", "at-least-once"),
        ("x_max_in_memory_length", 5),
        ("x_quorum_initial_group_size", 3),
        ("x_queue_leader_locator", "balanced"),
        ("x_single_active_consumer", True),
        ("x_overflow", "reject-publish"),
    ):
        await quorum.declare(channel, **{argument: value})


async def test_delivery_limit_must_be_repeated(channel: Channel, quorum: Quorum) -> None:
    queue = await quorum.declare(channel, x_delivery_limit=3)
    closed = await channel.refused(declare(queue, durable=True, arguments={**QUORUM, "x-delivery-limit": 5}))
    assert isinstance(closed, ChannelClosed)
    assert closed.code == 406
    assert "inequivalent arg 'x-delivery-limit'" in closed.text
    assert closed.text.endswith("received '5' but current is '3'")


async def test_classic_declaration_of_a_quorum_queue_is_inequivalent(
    channel: Channel, quorum: Quorum
) -> None:
    queue = await quorum.declare(channel)
    closed = await channel.refused(declare(queue, durable=True))
    assert isinstance(closed, ChannelClosed)
    assert closed.text.endswith("received none but current is the value 'quorum' of type 'longstr'")


async def test_returned_messages_come_in_the_order_of_their_return_with_a_count(
    channel: Channel, quorum: Quorum
) -> None:
    queue = await quorum.declare(channel)
    await channel.put(queue, b"1", b"2", b"3")
    await channel.consume(queue)
    first = [await channel.message() for _ in range(3)]
    assert [counted(each) for each in first] == [(body, False, None) for body in (b"1", b"2", b"3")]
    channel.nack(first[2].tag)
    channel.nack(first[0].tag)
    again = [await channel.message() for _ in range(2)]
    assert [counted(each) for each in again] == [(b"3", True, 1), (b"1", True, 1)]
    channel.nack(again[1].tag)
    assert counted(await channel.message()) == (b"1", True, 2)


async def test_every_way_back_counts(connection: Probe, connect: Any, quorum: Quorum) -> None:
    channel = await connection.channel()
    queue = await quorum.declare(channel)
    await channel.put(queue, b"1")
    assert counted(await _got(channel, queue)) == (b"1", False, 0)
    await channel.close()
    channel = await connection.channel()
    assert counted(await _got(channel, queue)) == (b"1", True, 1)
    await connection.drop()
    channel = await (await connect()).channel()
    async with asyncio.timeout(60):
        while (message := await channel.get(queue)) is None:
            await asyncio.sleep(0.01)
    assert counted(message) == (b"1", True, 2)
    await channel.rpc(commands.Basic.Recover(True), commands.Basic.RecoverOk)
    message = await _got(channel, queue)
    assert counted(message) == (b"1", True, 3)
    channel.reject(message.tag)
    assert counted(await _got(channel, queue)) == (b"1", True, 4)


async def _got(channel: Channel, queue: str) -> Message:
    message = await channel.get(queue)
    assert message is not None
    return message


async def test_a_fresh_message_after_a_returned_one_counts_from_none(
    channel: Channel, quorum: Quorum
) -> None:
    queue = await quorum.declare(channel)
    await channel.put(queue, b"1")
    await channel.consume(queue)
    for _ in range(3):
        channel.nack((await channel.message()).tag)
    channel.ack((await channel.message()).tag)
    await channel.put(queue, b"2")
    message = await channel.message()
    assert counted(message) == (b"2", False, None)
    channel.nack(message.tag)
    assert counted(await channel.message()) == (b"2", True, 1)


async def test_message_returned_too_often_is_dead_lettered_as_it_was_published(
    connection: Probe, channel: Channel, quorum: Quorum
) -> None:
    dead = await channel.queue()
    queue = await quorum.declare(
        channel, x_delivery_limit=2, x_dead_letter_exchange="", x_dead_letter_routing_key=dead
    )
    await channel.put(queue, b"1", headers={"x-delivery-count": 77, "mine": 1})
    await channel.consume(queue)
    counts = []
    for _ in range(3):
        message = await channel.message()
        counts.append(message.headers["x-delivery-count"])
        channel.nack(message.tag)
    assert counts == [77, 1, 2]
    letter = await dead_letter(await connection.channel(), dead)
    assert (letter.headers["x-delivery-count"], letter.headers["mine"]) == (77, 1)
    (death,) = letter.headers["x-death"]
    assert (death["reason"], death["queue"], death["count"]) == ("delivery_limit", queue, 1)
    assert letter.headers["x-first-death-reason"] == "delivery_limit"


@pytest.mark.parametrize("limit", [0, -1])
async def test_no_return_is_allowed_with_limit_0(
    connection: Probe, channel: Channel, quorum: Quorum, limit: int
) -> None:
    dead = await channel.queue()
    queue = await quorum.declare(
        channel, x_delivery_limit=limit, x_dead_letter_exchange="", x_dead_letter_routing_key=dead
    )
    await channel.put(queue, b"1")
    await channel.consume(queue)
    channel.nack((await channel.message()).tag)
    assert (await dead_letter(await connection.channel(), dead)).body == b"1"


async def test_rejected_message_is_dead_lettered_without_a_count(
    connection: Probe, channel: Channel, quorum: Quorum
) -> None:
    dead = await channel.queue()
    queue = await quorum.declare(channel, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    await channel.put(queue, b"1")
    await channel.consume(queue)
    channel.nack((await channel.message()).tag)
    channel.reject((await channel.message()).tag, requeue=False)
    letter = await dead_letter(await connection.channel(), dead)
    assert "x-delivery-count" not in letter.headers
    assert letter.headers["x-death"][0]["reason"] == "rejected"


async def test_priorities_of_messages_do_not_count(channel: Channel, quorum: Quorum) -> None:
    queue = await quorum.declare(channel)
    await channel.put(queue, b"low", priority=1)
    await channel.put(queue, b"high", priority=9)
    assert await channel.bodies(queue) == [b"low", b"high"]


async def test_exclusive_consumer_is_one_of_several(connection: Probe, quorum: Quorum) -> None:
    one, other = await connection.channel(), await connection.channel()
    queue = await quorum.declare(one)
    await one.consume(queue, exclusive=True)
    await other.consume(queue)


async def test_shared_prefetch_limit_is_refused(channel: Channel, quorum: Quorum) -> None:
    queue = await quorum.declare(channel)
    await channel.qos(5, shared=True)
    closed = await channel.refused(commands.Basic.Consume(0, queue, "t"))
    text = f"NOT_IMPLEMENTED - queue '{queue}' in vhost '/' does not support global qos"
    assert closed == ConnectionClosed(540, text, 60, 20)


@pytest.mark.parametrize("flag", ["if-unused", "if-empty"])
async def test_conditional_delete_is_refused(channel: Channel, quorum: Quorum, flag: str) -> None:
    queue = await quorum.declare(channel)
    method: base.Frame = commands.Queue.Delete(0, queue, flag == "if-unused", flag == "if-empty")
    closed = await channel.refused(method)
    assert isinstance(closed, ConnectionClosed)
    assert (closed.code, closed.class_id, closed.method_id) == (540, 50, 40)
    assert closed.text.startswith(f"NOT_IMPLEMENTED - cannot delete queue '{queue}'")
    assert f"queue.delete operations with {flag} flag set are not supported by quorum queues" in closed.text


async def test_stream_offset_is_refused(channel: Channel, quorum: Quorum) -> None:
    queue = await quorum.declare(channel)
    closed = await channel.refused(
        commands.Basic.Consume(0, queue, "t", arguments={"x-stream-offset": "first"})
    )
    assert isinstance(closed, ChannelClosed)
    assert closed.text.endswith("in vhost '/' of queue type rabbit_quorum_queue")


async def test_stream_is_refused_with_what_is_missing(channel: Channel, broker: Any) -> None:
    if broker.name == "rabbitmq":
        pytest.skip("RabbitMQ has streams")
    closed = await channel.refused(declare(unique(), durable=True, arguments={"x-queue-type": "stream"}))
    assert isinstance(closed, ConnectionClosed)
    assert closed.code == 540
    assert "has no log that consumers read from an offset" in closed.text

"""Queues with x-single-active-consumer: one is served, the next takes over."""

from __future__ import annotations

import pytest
from pamqp import commands

from tests.support.amqp_probe import Channel, ChannelClosed, Probe
from tests.support.broker import Connect
from tests.support.rabbitmq import unique


async def test_only_the_first_consumer_is_served(connection: Probe) -> None:
    first, second = await connection.channel(), await connection.channel()
    queue = await first.queue(x_single_active_consumer=True)
    await first.consume(queue, no_ack=True)
    await second.consume(queue, no_ack=True)
    await first.put(queue, b"1", b"2", b"3")
    assert await first.messages(3) == [b"1", b"2", b"3"]
    await second.settled(queue)


async def test_next_in_line_takes_over_when_the_active_one_is_cancelled(connection: Probe) -> None:
    channels = [await connection.channel() for _ in range(3)]
    first, second, third = channels
    queue = await first.queue(x_single_active_consumer=True)
    for channel in channels:
        await channel.consume(queue, "t", no_ack=True)
    await first.rpc(commands.Basic.Cancel("t"), commands.Basic.CancelOk)
    await first.put(queue, b"1")
    assert await second.messages(1) == [b"1"]
    await second.close()
    await first.put(queue, b"2")
    assert await third.messages(1) == [b"2"]


async def test_active_consumer_without_credit_is_not_passed_over(connection: Probe) -> None:
    first, second = await connection.channel(), await connection.channel()
    queue = await first.queue(x_single_active_consumer=True)
    await first.qos(1)
    await first.consume(queue)
    await second.consume(queue)
    await first.put(queue, b"1", b"2")
    message = await first.message()
    await second.settled(queue)
    first.ack(message.tag)
    assert (await first.message()).body == b"2"


async def test_what_the_active_one_held_goes_to_the_next_when_its_channel_closes(connection: Probe) -> None:
    first, second = await connection.channel(), await connection.channel()
    queue = await second.queue(x_single_active_consumer=True)
    await first.consume(queue)
    await second.consume(queue)
    await second.put(queue, b"1", b"2")
    await first.messages(2)
    await first.close()
    taken = [await second.message() for _ in range(2)]
    assert [(one.body, one.redelivered) for one in taken] == [(b"1", True), (b"2", True)]


@pytest.mark.parametrize("way", ["channel", "connection", "socket"])
async def test_what_a_cancelled_one_held_comes_first_however_it_leaves(
    connect: Connect, connection: Probe, way: str
) -> None:
    second = await connection.channel()
    queue = unique()
    await second.declare(queue, arguments={"x-single-active-consumer": True})
    leaver = await connect()
    first = await leaver.channel()
    for channel in (first, second):
        await channel.qos(1)
        await channel.consume(queue, "t")
    await second.put(queue, b"1", b"2")
    await first.message()
    await first.rpc(commands.Basic.Cancel("t"), commands.Basic.CancelOk)
    if way == "channel":
        await first.close()
    elif way == "connection":
        await leaver.close()
    else:
        await leaver.drop()
    message = await second.message()
    assert (message.body, message.redelivered) == (b"1", True)
    second.ack(message.tag)
    assert (await second.message()).body == b"2"
    await second.delete(queue)


async def test_priority_does_not_replace_the_active_one(connection: Probe) -> None:
    first, second = await connection.channel(), await connection.channel()
    queue = await first.queue(x_single_active_consumer=True)
    await first.consume(queue, no_ack=True)
    await second.consume(queue, no_ack=True, arguments={"x-priority": 10})
    await first.put(queue, b"1")
    assert await first.messages(1) == [b"1"]


async def test_exclusive_consumer_is_refused(channel: Channel) -> None:
    queue = await channel.queue(unique(), x_single_active_consumer=True)
    closed = await channel.refused(commands.Basic.Consume(0, queue, "t", False, False, True))
    assert closed == ChannelClosed(
        403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use", 60, 20
    )


async def test_get_takes_beside_the_active_one(connection: Probe) -> None:
    first, second = await connection.channel(), await connection.channel()
    queue = await first.queue(x_single_active_consumer=True)
    await first.qos(1)
    await first.consume(queue)
    await first.put(queue, b"1", b"2")
    await first.message()
    assert (await second.take(queue)).body == b"2"

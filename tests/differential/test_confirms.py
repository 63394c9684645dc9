"""Publisher confirms: numbering, order with returns, nacks, and what they do not go with."""

from __future__ import annotations

import pytest
from pamqp import commands

from tests.support.amqp_probe import Channel, ChannelClosed, Message, Probe
from tests.support.rabbitmq import unique


async def test_publishes_are_numbered_from_one(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.confirms()
    for _ in range(5):
        channel.publish(b"x", queue)
    assert await channel.outcomes(5) == dict.fromkeys(range(1, 6), "ack")


async def test_publishes_before_confirm_select_are_not_counted(channel: Channel) -> None:
    queue = await channel.queue()
    channel.publish(b"before", queue)
    await channel.confirms()
    channel.publish(b"after", queue)
    assert await channel.outcomes(1) == {1: "ack"}


async def test_selecting_twice_goes_on_counting(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.confirms()
    channel.publish(b"1", queue)
    assert await channel.outcomes(1) == {1: "ack"}
    await channel.confirms()
    channel.publish(b"2", queue)
    ack = await channel.expect(commands.Basic.Ack)
    assert ack.delivery_tag == 2


async def test_no_wait_is_answered_by_nothing_but_counts(channel: Channel) -> None:
    channel.send(commands.Confirm.Select(True))
    channel.publish(b"x", unique("nobody"))
    ack = await channel.expect(commands.Basic.Ack)
    assert (ack.delivery_tag, ack.multiple) == (1, False)


async def test_unroutable_message_is_acked(channel: Channel) -> None:
    await channel.confirms()
    channel.publish(b"x", unique("nobody"))
    assert await channel.outcomes(1) == {1: "ack"}


async def test_return_comes_before_its_ack(channel: Channel) -> None:
    await channel.confirms()
    channel.publish(b"x", unique("nobody"), mandatory=True)
    returned = await channel.next()
    assert isinstance(returned, Message)
    assert isinstance(returned.method, commands.Basic.Return)
    assert isinstance(await channel.next(), commands.Basic.Ack)


async def test_many_publishes_are_confirmed_with_few_frames(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.confirms()
    for _ in range(1000):
        channel.publish(b"x", queue)
    assert await channel.outcomes(1000) == dict.fromkeys(range(1, 1001), "ack")
    assert (await channel.counts(queue))[0] == 1000


async def test_each_channel_counts_for_itself(connection: Probe) -> None:
    first, second = await connection.channel(), await connection.channel()
    queue = await first.queue()
    for channel in (first, second):
        await channel.confirms()
        channel.publish(b"x", queue)
        assert await channel.outcomes(1) == {1: "ack"}


async def test_persistent_message_to_a_durable_queue_is_acked(connection: Probe) -> None:
    channel = await connection.channel()
    name = unique()
    await channel.declare(name, durable=True)
    await channel.confirms()
    channel.publish(b"x", name, delivery_mode=2)
    assert await channel.outcomes(1) == {1: "ack"}
    await channel.delete(name)


async def test_message_that_expires_or_is_dropped_was_acked(channel: Channel) -> None:
    dropping = await channel.queue(x_max_length=0)
    await channel.confirms()
    channel.publish(b"x", dropping)
    channel.publish(b"x", dropping, expiration="0")
    assert await channel.outcomes(2) == {1: "ack", 2: "ack"}


async def test_confirm_mode_does_not_go_with_transactions(channel: Channel) -> None:
    await channel.confirms()
    assert await channel.refused(commands.Tx.Select()) == ChannelClosed(
        406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode", 90, 10
    )


async def test_transactions_do_not_go_with_confirm_mode(channel: Channel) -> None:
    await channel.rpc(commands.Tx.Select(), commands.Tx.SelectOk)
    assert await channel.refused(commands.Confirm.Select(False)) == ChannelClosed(
        406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode", 85, 10
    )


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
async def test_full_queue_nacks(channel: Channel, overflow: str) -> None:
    queue = await channel.queue(x_max_length=1, x_overflow=overflow)
    await channel.confirms()
    for _ in range(3):
        channel.publish(b"x", queue)
    assert await channel.outcomes(3) == {1: "ack", 2: "nack", 3: "nack"}


async def test_full_queue_takes_again_when_there_is_room(channel: Channel) -> None:
    queue = await channel.queue(x_max_length=1, x_overflow="reject-publish")
    await channel.confirms()
    channel.publish(b"1", queue)
    assert await channel.outcomes(1) == {1: "ack"}
    await channel.take(queue)
    channel.publish(b"2", queue)
    ack = await channel.expect(commands.Basic.Ack)
    assert ack.delivery_tag == 2

"""basic.consume and cancel: tags, exclusivity, fairness, priorities, and being told of the end."""

from __future__ import annotations

from collections import Counter

import pytest
from pamqp import commands

from tests.support.amqp_probe import (
    CAPABILITIES,
    Channel,
    ChannelClosed,
    ConnectionClosed,
    Message,
    Probe,
)
from tests.support.broker import Connect
from tests.support.rabbitmq import unique


def consume(
    queue: str, tag: str = "", *, no_ack: bool = False, exclusive: bool = False
) -> commands.Basic.Consume:
    return commands.Basic.Consume(0, queue, tag, False, no_ack, exclusive)


async def test_delivery_tells_where_it_came_from(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.consume(queue, "mine")
    channel.publish(b"x", queue)
    message = await channel.message()
    assert isinstance(message.method, commands.Basic.Deliver)
    method = message.method
    assert (method.consumer_tag, method.delivery_tag, method.redelivered) == ("mine", 1, False)
    assert (method.exchange, method.routing_key) == ("", queue)


async def test_empty_tag_is_replaced_by_a_generated_one(channel: Channel) -> None:
    queue = await channel.queue()
    first, second = await channel.consume(queue), await channel.consume(queue)
    assert first != second
    for tag in (first, second):
        assert tag.startswith("amq.ctag-")
        assert len(tag) == len("amq.ctag-") + 22


async def test_tag_in_use_on_the_channel_is_not_allowed(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.consume(queue, "t")
    assert await channel.refused(consume(queue, "t")) == ConnectionClosed(
        530, "NOT_ALLOWED - attempt to reuse consumer tag 't'", 60, 20
    )


async def test_tag_may_be_used_on_another_channel_and_again_after_cancel(connection: Probe) -> None:
    first, second = await connection.channel(), await connection.channel()
    queue = await first.queue()
    await first.consume(queue, "t")
    await second.consume(queue, "t")
    await first.rpc(commands.Basic.Cancel("t"), commands.Basic.CancelOk)
    await first.consume(queue, "t")


async def test_second_consumer_beside_an_exclusive_one_is_refused(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.consume(queue, exclusive=True)
    assert await channel.refused(consume(queue)) == ChannelClosed(
        403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use", 60, 20
    )


async def test_exclusive_consumer_beside_another_is_refused(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.consume(queue)
    assert await channel.refused(consume(queue, exclusive=True)) == ChannelClosed(
        403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use", 60, 20
    )


async def test_exclusivity_ends_with_the_consumer(channel: Channel) -> None:
    queue = await channel.queue()
    tag = await channel.consume(queue, exclusive=True)
    await channel.rpc(commands.Basic.Cancel(tag), commands.Basic.CancelOk)
    await channel.consume(queue)


async def test_cancelling_an_unknown_tag_is_fine(channel: Channel) -> None:
    ok = await channel.rpc(commands.Basic.Cancel("nobody"), commands.Basic.CancelOk)
    assert ok.consumer_tag == "nobody"


async def test_messages_wait_again_after_cancel_and_unacked_ones_stay_with_the_channel(
    channel: Channel,
) -> None:
    queue = await channel.queue()
    tag = await channel.consume(queue)
    await channel.put(queue, b"1")
    first = await channel.message()
    await channel.rpc(commands.Basic.Cancel(tag), commands.Basic.CancelOk)
    await channel.put(queue, b"2")
    assert await channel.counts(queue) == (1, 0)
    channel.ack(first.tag)
    assert await channel.bodies(queue) == [b"2"]


async def test_consumers_take_turns(connection: Probe) -> None:
    channels = [await connection.channel() for _ in range(3)]
    queue = await channels[0].queue()
    for channel in channels:
        await channel.consume(queue, no_ack=True)
    await channels[0].put(queue, *[str(number).encode() for number in range(9)])
    taken = [await channel.messages(3) for channel in channels]
    assert taken == [[b"0", b"3", b"6"], [b"1", b"4", b"7"], [b"2", b"5", b"8"]]


async def test_consumers_of_one_channel_take_turns(channel: Channel) -> None:
    queue = await channel.queue()
    for tag in "ab":
        await channel.consume(queue, tag, no_ack=True)
    await channel.put(queue, *[str(number).encode() for number in range(6)])
    seen: Counter[str | None] = Counter()
    for _ in range(6):
        message = await channel.message()
        assert isinstance(message.method, commands.Basic.Deliver)
        seen[message.method.consumer_tag] += 1
    assert seen == {"a": 3, "b": 3}


async def test_higher_priority_is_served_first_while_it_has_credit(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.qos(2)
    await channel.consume(queue, "low")
    await channel.consume(queue, "high", arguments={"x-priority": 10})
    await channel.consume(queue, "lower", arguments={"x-priority": -1})
    await channel.put(queue, *[str(number).encode() for number in range(5)])
    served = []
    for _ in range(5):
        message = await channel.message()
        assert isinstance(message.method, commands.Basic.Deliver)
        served.append(message.method.consumer_tag)
    assert served == ["high", "high", "low", "low", "lower"]


@pytest.mark.parametrize(("value", "kind"), [("high", "longstr"), (1.5, "float")])
async def test_priority_must_be_an_integer(channel: Channel, value: str | float, kind: str) -> None:
    queue = await channel.queue()
    closed = await channel.refused(commands.Basic.Consume(0, queue, "t", arguments={"x-priority": value}))
    assert isinstance(closed, ChannelClosed)
    assert (closed.code, closed.class_id, closed.method_id) == (406, 60, 20)
    assert closed.text.startswith("PRECONDITION_FAILED - ")
    assert "x-priority" in closed.text and kind in closed.text


async def test_deleted_queue_cancels_its_consumers(connect: Connect) -> None:
    channel = await (await connect()).channel()
    other = await (await connect()).channel()
    name = unique()
    await other.declare(name)
    await channel.consume(name, "t")
    await other.delete(name)
    cancel = await channel.expect(commands.Basic.Cancel)
    assert (cancel.consumer_tag, cancel.nowait) == ("t", True)
    await channel.consume(await channel.queue(), "t")  # the tag is free again


async def test_client_without_the_capability_is_not_told(connect: Connect) -> None:
    capabilities = CAPABILITIES | {"consumer_cancel_notify": False}
    channel = await (await connect(capabilities=capabilities)).channel()
    other = await (await connect()).channel()
    name = unique()
    await other.declare(name)
    await channel.consume(name, "t")
    await other.delete(name)
    queue = await channel.queue()
    await channel.consume(queue, "u", no_ack=True)
    channel.publish(b"x", queue)
    assert (await channel.message()).body == b"x"


async def test_own_deletion_is_confirmed_before_the_cancel(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.consume(queue, "t")
    channel.send(commands.Queue.Delete(0, queue))
    assert isinstance(await channel.next(), commands.Queue.DeleteOk)
    cancel = await channel.expect(commands.Basic.Cancel)
    assert cancel.consumer_tag == "t"


async def test_no_local_is_accepted_and_ignored(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.consume(queue, no_local=True, no_ack=True)
    channel.publish(b"my own", queue)
    assert (await channel.message()).body == b"my own"


async def test_waiting_messages_follow_consume_ok(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.put(queue, b"1", b"2")
    channel.send(consume(queue, "t", no_ack=True))
    assert isinstance(await channel.next(), commands.Basic.ConsumeOk)
    assert await channel.messages(2) == [b"1", b"2"]


async def test_message_for_a_consumer_that_left_goes_to_another(connect: Connect) -> None:
    staying = await (await connect()).channel()
    leaving_probe = await connect()
    leaving = await leaving_probe.channel()
    name = unique()
    await staying.declare(name, auto_delete=True)
    await leaving.consume(name)
    await staying.put(name, b"1")
    assert isinstance(await leaving.message(), Message)
    await staying.consume(name, no_ack=True)
    await leaving_probe.close()
    again = await staying.message()
    assert (again.body, again.redelivered) == (b"1", True)


async def test_unknown_arguments_are_ignored(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.consume(queue, no_ack=True, arguments={"x-unknown": [1]})
    channel.publish(b"x", queue)
    assert (await channel.message()).body == b"x"

"""Acknowledging: ack, nack, reject, recover; places in the queue and the redelivered flag."""

from __future__ import annotations

import pytest
from pamqp import commands

from tests.support.amqp_probe import Channel, ChannelClosed, ConnectionClosed, Probe


def unknown(tag: int, method_id: int) -> ChannelClosed:
    return ChannelClosed(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}", 60, method_id)


async def filled(channel: Channel, *bodies: bytes) -> str:
    queue = await channel.queue()
    await channel.put(queue, *bodies)
    return queue


async def taken(channel: Channel, queue: str, count: int) -> list[int]:
    tags = []
    for _ in range(count):
        message = await channel.get(queue)
        assert message is not None
        tags.append(message.tag)
    return tags


async def remaining(channel: Channel, queue: str) -> list[tuple[bytes, bool]]:
    found = []
    while (message := await channel.get(queue, no_ack=True)) is not None:
        found.append((message.body, message.redelivered))
    return found


@pytest.mark.parametrize(
    ("method", "method_id"),
    [
        (commands.Basic.Ack(5, False), 80),
        (commands.Basic.Ack(5, True), 80),
        (commands.Basic.Nack(5, False, True), 120),
        (commands.Basic.Nack(5, True, True), 120),
        (commands.Basic.Reject(5, True), 90),
    ],
)
async def test_unknown_delivery_tag_is_refused(
    channel: Channel, method: commands.Basic.Ack, method_id: int
) -> None:
    assert await channel.refused(method) == unknown(5, method_id)


async def test_tag_zero_alone_is_unknown(channel: Channel) -> None:
    assert await channel.refused(commands.Basic.Ack(0, False)) == unknown(0, 80)


async def test_acking_twice_is_refused(channel: Channel) -> None:
    queue = await filled(channel, b"1", b"2")
    first, _ = await taken(channel, queue, 2)
    channel.ack(first)
    assert await channel.refused(commands.Basic.Ack(first, False)) == unknown(first, 80)


async def test_tag_of_another_channel_is_unknown(connection: Probe) -> None:
    one, two = await connection.channel(), await connection.channel()
    queue = await filled(one, b"1")
    (tag,) = await taken(one, queue, 1)
    assert await two.refused(commands.Basic.Ack(tag, False)) == unknown(tag, 80)


async def test_tag_of_a_delivery_without_ack_is_unknown(channel: Channel) -> None:
    queue = await filled(channel, b"1")
    message = await channel.take(queue)
    assert await channel.refused(commands.Basic.Ack(message.tag, False)) == unknown(message.tag, 80)


async def test_multiple_ack_takes_all_up_to_its_tag(channel: Channel) -> None:
    queue = await filled(channel, b"1", b"2", b"3")
    tags = await taken(channel, queue, 3)
    channel.ack(tags[1], multiple=True)
    channel.nack(tags[2])
    assert await remaining(channel, queue) == [(b"3", True)]


async def test_multiple_ack_of_zero_takes_all(channel: Channel) -> None:
    queue = await filled(channel, b"1", b"2")
    await taken(channel, queue, 2)
    channel.ack(0, multiple=True)
    await channel.close()
    again = await channel.probe.channel()
    assert await remaining(again, queue) == []


async def test_multiple_ack_of_zero_with_nothing_held_is_fine(channel: Channel) -> None:
    channel.ack(0, multiple=True)
    assert await channel.queue()


async def test_multiple_ack_up_to_a_tag_already_acked_is_refused(channel: Channel) -> None:
    queue = await filled(channel, b"1", b"2", b"3")
    tags = await taken(channel, queue, 3)
    channel.ack(tags[1])
    assert await channel.refused(commands.Basic.Ack(tags[1], True)) == unknown(tags[1], 80)


async def test_nack_puts_messages_back_where_they_were(channel: Channel) -> None:
    queue = await filled(channel, b"1", b"2", b"3", b"4")
    tags = await taken(channel, queue, 3)
    channel.nack(tags[1])
    channel.reject(tags[0])
    channel.ack(tags[2])
    assert await remaining(channel, queue) == [(b"1", True), (b"2", True), (b"4", False)]


async def test_multiple_nack_puts_all_back_in_order(channel: Channel) -> None:
    queue = await filled(channel, b"1", b"2", b"3", b"4")
    tags = await taken(channel, queue, 3)
    channel.nack(tags[-1], multiple=True)
    expected = [(b"1", True), (b"2", True), (b"3", True), (b"4", False)]
    assert await remaining(channel, queue) == expected


@pytest.mark.parametrize("how", ["nack", "reject"])
async def test_without_requeue_a_message_is_gone(channel: Channel, how: str) -> None:
    queue = await filled(channel, b"1", b"2")
    first, second = await taken(channel, queue, 2)
    if how == "nack":
        channel.nack(first, requeue=False)
    else:
        channel.reject(first, requeue=False)
    channel.nack(second)
    assert await remaining(channel, queue) == [(b"2", True)]


async def test_recover_requeues_all_as_redelivered(channel: Channel) -> None:
    queue = await filled(channel, b"1", b"2", b"3")
    await taken(channel, queue, 2)
    await channel.rpc(commands.Basic.Recover(True), commands.Basic.RecoverOk)
    assert await remaining(channel, queue) == [(b"1", True), (b"2", True), (b"3", False)]


async def test_recover_redelivers_to_the_consumer_with_new_tags(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.consume(queue, "t")
    await channel.put(queue, b"1", b"2")
    assert [(await channel.message()).tag for _ in range(2)] == [1, 2]
    channel.send(commands.Basic.Recover(True))
    events = [await channel.next() for _ in range(3)]
    messages = [one for one in events if not isinstance(one, commands.Basic.RecoverOk)]
    assert [(one.tag, one.body, one.redelivered) for one in messages] == [  # type: ignore[union-attr]
        (3, b"1", True),
        (4, b"2", True),
    ]


async def test_recover_async_requeues_without_an_answer(channel: Channel) -> None:
    queue = await filled(channel, b"1")
    await taken(channel, queue, 1)
    channel.probe.send_method(channel.number, 60, 100, b"\x01")
    assert await remaining(channel, queue) == [(b"1", True)]


@pytest.mark.parametrize("method_id", [100, 110])
async def test_recover_without_requeue_is_not_implemented(channel: Channel, method_id: int) -> None:
    channel.probe.send_method(channel.number, 60, method_id, b"\x00")
    assert await channel.closed() == ConnectionClosed(540, "NOT_IMPLEMENTED - requeue=false", 60, method_id)


async def test_requeued_message_may_go_to_another_consumer(connection: Probe) -> None:
    one, two = await connection.channel(), await connection.channel()
    queue = await one.queue()
    tag = await one.consume(queue)
    await one.put(queue, b"1")
    first = await one.message()
    await two.consume(queue)
    await one.rpc(commands.Basic.Cancel(tag), commands.Basic.CancelOk)
    one.nack(first.tag)
    again = await two.message()
    assert (again.body, again.redelivered) == (b"1", True)


async def test_redelivered_is_about_this_message_in_this_queue(channel: Channel) -> None:
    queue = await filled(channel, b"1")
    (tag,) = await taken(channel, queue, 1)
    channel.nack(tag)
    (tag,) = await taken(channel, queue, 1)
    channel.ack(tag)
    await channel.put(queue, b"1")
    assert await remaining(channel, queue) == [(b"1", False)]


async def test_order_of_requeues_does_not_matter(channel: Channel) -> None:
    queue = await filled(channel, *[str(number).encode() for number in range(6)])
    tags = await taken(channel, queue, 5)
    for index in (3, 0, 4, 1, 2):
        channel.nack(tags[index])
    assert [body for body, _ in await remaining(channel, queue)] == [b"0", b"1", b"2", b"3", b"4", b"5"]

"""basic.get: one message at a time."""

from __future__ import annotations

from pamqp import commands

from tests.support.amqp_probe import Channel, Message


async def test_empty_queue_answers_get_empty(channel: Channel) -> None:
    queue = await channel.queue()
    assert await channel.get(queue) is None


async def test_get_ok_tells_where_it_came_from_and_what_is_left(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.put(queue, b"1", b"2", b"3")
    message = await channel.get(queue)
    assert isinstance(message, Message) and isinstance(message.method, commands.Basic.GetOk)
    method = message.method
    assert (method.delivery_tag, method.redelivered, method.message_count) == (1, False, 2)
    assert (method.exchange, method.routing_key, message.body) == ("", queue, b"1")


async def test_tags_count_deliveries_of_the_channel_with_and_without_ack(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.put(queue, b"1", b"2", b"3")
    tags = [(await channel.get(queue, no_ack=flag)) for flag in (True, False, True)]
    assert [one.tag if one else None for one in tags] == [1, 2, 3]


async def test_message_taken_without_ack_does_not_come_back(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.put(queue, b"1")
    await channel.take(queue)
    await channel.rpc(commands.Basic.Recover(True), commands.Basic.RecoverOk)
    assert await channel.get(queue) is None


async def test_get_does_not_look_at_prefetch(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.qos(1, shared=True)
    await channel.put(queue, b"1", b"2")
    assert await channel.get(queue) and await channel.get(queue)


async def test_get_beside_a_consumer_without_credit(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.qos(1)
    await channel.consume(queue)
    await channel.put(queue, b"1", b"2")
    assert (await channel.message()).body == b"1"
    assert (await channel.take(queue)).body == b"2"

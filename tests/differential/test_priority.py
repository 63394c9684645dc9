"""Queues with x-max-priority: higher first, equals in order, and what requeueing does."""

from __future__ import annotations

from tests.support.amqp_probe import Channel


async def test_higher_priority_comes_first_and_equals_keep_their_order(channel: Channel) -> None:
    queue = await channel.queue(x_max_priority=5)
    for priority, body in ((1, b"1a"), (5, b"5a"), (1, b"1b"), (3, b"3"), (5, b"5b")):
        await channel.put(queue, body, priority=priority)
    assert await channel.bodies(queue) == [b"5a", b"5b", b"3", b"1a", b"1b"]


async def test_no_priority_is_the_lowest(channel: Channel) -> None:
    queue = await channel.queue(x_max_priority=5)
    await channel.put(queue, b"none")
    await channel.put(queue, b"zero", priority=0)
    await channel.put(queue, b"one", priority=1)
    assert await channel.bodies(queue) == [b"one", b"none", b"zero"]


async def test_priority_above_the_maximum_counts_as_the_maximum(channel: Channel) -> None:
    queue = await channel.queue(x_max_priority=5)
    await channel.put(queue, b"5", priority=5)
    await channel.put(queue, b"200", priority=200)
    assert await channel.bodies(queue) == [b"5", b"200"]
    await channel.put(queue, b"200", priority=200)
    message = await channel.take(queue)
    assert message.properties["priority"] == 200, "the message itself is not changed"


async def test_queue_without_the_argument_does_not_look_at_priorities(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.put(queue, b"1", priority=1)
    await channel.put(queue, b"9", priority=9)
    assert await channel.bodies(queue) == [b"1", b"9"]


async def test_requeued_message_keeps_its_place_among_equals(channel: Channel) -> None:
    queue = await channel.queue(x_max_priority=5)
    for priority, body in ((1, b"1a"), (3, b"3a"), (3, b"3b")):
        await channel.put(queue, body, priority=priority)
    first = await channel.get(queue)
    assert first is not None and first.body == b"3a"
    await channel.put(queue, b"4", priority=4)
    channel.nack(first.tag)
    assert await channel.bodies(queue) == [b"4", b"3a", b"3b", b"1a"]


async def test_max_length_drops_the_head_which_is_the_highest_priority(channel: Channel) -> None:
    queue = await channel.queue(x_max_priority=5, x_max_length=2)
    await channel.put(queue, b"3", priority=3)
    await channel.put(queue, b"1", priority=1)
    await channel.put(queue, b"5", priority=5)
    assert await channel.bodies(queue) == [b"3", b"1"]


async def test_message_expires_only_at_the_head_whatever_its_priority(channel: Channel) -> None:
    dead, done = await channel.queue(), await channel.queue()
    queue = await channel.queue(x_max_priority=5, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    timer = await channel.queue(x_message_ttl=40, x_dead_letter_exchange="", x_dead_letter_routing_key=done)
    await channel.put(queue, b"high", priority=5)
    await channel.put(queue, b"low", priority=1, expiration="1")
    await channel.put(timer, b"later")
    await channel.consume(done, no_ack=True)
    await channel.messages(1)
    assert await channel.counts(queue) == (2, 0)
    assert (await channel.take(queue)).body == b"high"
    await channel.consume(dead, no_ack=True)
    assert (await channel.message()).body == b"low"


async def test_consumer_gets_the_highest_that_waits(channel: Channel) -> None:
    queue = await channel.queue(x_max_priority=5)
    await channel.qos(1)
    await channel.put(queue, b"1", b"2", priority=1)
    await channel.consume(queue)
    first = await channel.message()
    await channel.put(queue, b"5", priority=5)
    channel.ack(first.tag)
    assert (await channel.message()).body == b"5"

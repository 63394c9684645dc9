"""basic.qos: how much a consumer or a channel may hold unacknowledged."""

from __future__ import annotations

from pamqp import commands

from tests.support.amqp_probe import Channel, ConnectionClosed, Probe


async def test_prefetch_size_is_not_implemented(channel: Channel) -> None:
    assert await channel.refused(commands.Basic.Qos(1, 0, False)) == ConnectionClosed(
        540, "NOT_IMPLEMENTED - prefetch_size!=0 (1)", 60, 10
    )


async def test_consumer_gets_no_more_than_its_prefetch(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.qos(2)
    await channel.put(queue, b"1", b"2", b"3", b"4")
    await channel.consume(queue)
    first = await channel.message()
    second = await channel.message()
    await channel.settled(queue)  # nothing more came before the answer
    channel.ack(first.tag)
    third = await channel.message()
    await channel.settled(queue)
    channel.ack(third.tag, multiple=True)
    fourth = await channel.message()
    assert [one.body for one in (first, second, third, fourth)] == [b"1", b"2", b"3", b"4"]


async def test_prefetch_holds_for_consumers_made_afterwards(channel: Channel) -> None:
    one, two = await channel.queue(), await channel.queue()
    await channel.put(one, b"1", b"2", b"3")
    await channel.put(two, b"1", b"2", b"3")
    await channel.qos(1)
    await channel.consume(one, "limited")
    assert await channel.messages(1) == [b"1"]
    await channel.qos(0)
    await channel.consume(two, "free")
    assert await channel.messages(3) == [b"1", b"2", b"3"]
    await channel.settled(one)


async def test_prefetch_counts_for_each_consumer(channel: Channel) -> None:
    one, two = await channel.queue(), await channel.queue()
    await channel.qos(1)
    await channel.consume(one)
    await channel.consume(two)
    await channel.put(one, b"1a", b"1b")
    await channel.put(two, b"2a", b"2b")
    assert sorted(await channel.messages(2)) == [b"1a", b"2a"]
    await channel.settled(one)
    await channel.settled(two)


async def test_shared_prefetch_counts_for_the_channel(channel: Channel) -> None:
    one, two = await channel.queue(), await channel.queue()
    await channel.qos(2, shared=True)
    await channel.put(one, b"1a", b"1b", b"1c")
    await channel.put(two, b"2a")
    await channel.consume(one)
    first, second = await channel.message(), await channel.message()
    assert (first.body, second.body) == (b"1a", b"1b")
    await channel.consume(two)
    await channel.settled(two)
    channel.ack(second.tag, multiple=True)
    assert sorted(await channel.messages(2)) in ([b"1c", b"2a"],)


async def test_both_limits_hold_together(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.qos(2)
    await channel.qos(3, shared=True)
    await channel.put(queue, b"1", b"2", b"3", b"4", b"5")
    await channel.consume(queue, "a")
    assert await channel.messages(2) == [b"1", b"2"]
    await channel.consume(queue, "b")
    assert await channel.messages(1) == [b"3"]
    await channel.settled(queue)


async def test_later_limit_per_consumer_lifts_the_shared_one(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.qos(1, shared=True)
    await channel.qos(2)
    await channel.put(queue, b"1", b"2", b"3")
    await channel.consume(queue, "a")
    assert await channel.messages(2) == [b"1", b"2"]
    await channel.settled(queue)


async def test_consumer_without_acks_is_not_limited(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.qos(1)
    await channel.put(queue, b"1", b"2", b"3")
    await channel.consume(queue, no_ack=True)
    assert await channel.messages(3) == [b"1", b"2", b"3"]


async def test_raising_the_shared_limit_lets_more_through(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.qos(1, shared=True)
    await channel.put(queue, b"1", b"2", b"3")
    await channel.consume(queue)
    assert await channel.messages(1) == [b"1"]
    channel.send(commands.Basic.Qos(0, 3, True))
    events = [await channel.next() for _ in range(3)]
    kinds = sorted(type(event).__name__ for event in events)
    assert kinds == ["Message", "Message", "QosOk"]


async def test_limits_of_one_channel_are_not_those_of_another(connection: Probe) -> None:
    limited, free = await connection.channel(), await connection.channel()
    queue = await limited.queue()
    await limited.qos(1)
    await limited.consume(queue)
    await free.consume(queue)
    await free.put(queue, b"1", b"2", b"3", b"4")
    assert len(await limited.messages(1)) == 1
    assert len(await free.messages(3)) == 3

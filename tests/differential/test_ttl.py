"""Time to live: of messages by their queue and by themselves, and of idle queues."""

from __future__ import annotations

import asyncio
from typing import Any

from pamqp import commands

from tests.support.amqp_probe import Channel, ChannelClosed, Probe, declare
from tests.support.rabbitmq import unique


async def lettering(channel: Channel, **arguments: Any) -> tuple[str, str]:
    """A queue and one that its dead letters go to: their arrival is how expiry is waited for."""
    dead = await channel.queue()
    queue = await channel.queue(
        unique(), x_dead_letter_exchange="", x_dead_letter_routing_key=dead, **arguments
    )
    return queue, dead


async def test_queues_ttl_expires_messages(channel: Channel) -> None:
    queue, dead = await lettering(channel, x_message_ttl=20)
    await channel.consume(dead, no_ack=True)
    await channel.put(queue, b"1", b"2")
    assert await channel.messages(2) == [b"1", b"2"]
    assert await channel.get(queue) is None


async def test_shorter_of_both_times_counts(channel: Channel) -> None:
    short, dead = await lettering(channel, x_message_ttl=10)
    await channel.consume(dead, no_ack=True)
    await channel.put(short, b"by the queue", expiration="60000")
    assert await channel.messages(1) == [b"by the queue"]
    long, dead = await lettering(channel, x_message_ttl=60_000)
    await channel.consume(dead, no_ack=True)
    await channel.put(long, b"by itself", expiration="10")
    assert await channel.messages(1) == [b"by itself"]


async def test_message_expires_only_at_the_head(channel: Channel) -> None:
    queue, dead = await lettering(channel)
    await channel.put(queue, b"long", expiration="60000")
    await channel.put(queue, b"short", expiration="1")
    timer, done = await lettering(channel, x_message_ttl=40)
    await channel.put(timer, b"later")
    await channel.consume(done, no_ack=True)
    await channel.messages(1)
    assert await channel.counts(queue) == (2, 0)
    assert await channel.counts(dead) == (0, 0)
    assert (await channel.take(queue)).body == b"long"
    await channel.consume(dead, no_ack=True)
    assert (await channel.message()).body == b"short"


async def test_zero_expires_unless_it_can_be_delivered_at_once(channel: Channel) -> None:
    queue = await channel.queue(x_message_ttl=0)
    await channel.put(queue, b"nobody there")
    assert await channel.get(queue) is None
    await channel.consume(queue, no_ack=True)
    await channel.put(queue, b"somebody there")
    assert (await channel.message()).body == b"somebody there"


async def test_zero_expiration_of_a_message_is_the_same(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.put(queue, b"nobody there", expiration="0")
    assert await channel.get(queue) is None
    await channel.consume(queue, no_ack=True)
    await channel.put(queue, b"somebody there", expiration="0")
    message = await channel.message()
    assert (message.body, message.properties["expiration"]) == (b"somebody there", "0")


async def test_unacked_message_does_not_expire_but_does_when_requeued(channel: Channel) -> None:
    queue, dead = await lettering(channel, x_message_ttl=30)
    tag = await channel.consume(queue)  # it waits for the message, and not the message for it
    await channel.put(queue, b"held")
    message = await channel.message()
    await channel.rpc(commands.Basic.Cancel(tag), commands.Basic.CancelOk)
    timer, done = await lettering(channel, x_message_ttl=60)
    await channel.consume(done, no_ack=True)
    await channel.put(timer, b"later")
    await channel.messages(1)
    assert await channel.counts(dead) == (0, 0)
    channel.nack(message.tag)
    await channel.consume(dead, no_ack=True)
    assert (await channel.message()).body == b"held"


async def gone(channel: Channel, queue: str, unused: float = 0.1) -> None:
    """Wait until a passive declaration does not find the queue, which lives shorter than `unused` seconds."""
    async with asyncio.timeout(60):
        while True:
            channel.send(declare(queue, passive=True))
            event = await channel.next()
            if isinstance(event, commands.Channel.Close):
                assert event.reply_code == 404
                channel.send(commands.Channel.CloseOk())
                return
            # Being declared is use, so the time starts anew: wait for longer than it is.
            await asyncio.sleep(unused)


async def test_unused_queue_expires(connection: Probe) -> None:
    channel = await connection.channel()
    name = unique()
    await channel.declare(name, arguments={"x-expires": 30})
    await gone(channel, name)


async def test_queue_with_a_consumer_does_not_expire(connection: Probe) -> None:
    channel = await connection.channel()
    name = unique()
    channel.send(declare(name, arguments={"x-expires": 200}))  # and is used before the answer has come
    channel.send(commands.Basic.Consume(queue=name, consumer_tag="tag"))
    assert isinstance(await channel.next(), commands.Queue.DeclareOk)
    assert isinstance(await channel.next(), commands.Basic.ConsumeOk)
    timer, done = await lettering(channel, x_message_ttl=400)
    await channel.consume(done, no_ack=True)
    await channel.put(timer, b"later")
    await channel.messages(1)
    assert await channel.counts(name) == (0, 1)
    await channel.rpc(commands.Basic.Cancel("tag"), commands.Basic.CancelOk)
    await gone(channel, name, 0.3)


async def test_expiring_queue_takes_its_messages_without_dead_letters(connection: Probe) -> None:
    channel, watcher = await connection.channel(), await connection.channel()
    dead = await channel.queue()
    name = unique()
    arguments = {"x-expires": 30, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    await channel.declare(name, arguments=arguments)
    await channel.put(name, b"x")
    await gone(channel, name)
    assert await watcher.get(dead) is None


async def test_expired_queue_is_not_found(channel: Channel) -> None:
    name = unique()
    await channel.declare(name, arguments={"x-expires": 1})
    other, done = await lettering(channel, x_message_ttl=100)
    await channel.consume(done, no_ack=True)
    await channel.put(other, b"later")
    await channel.messages(1)
    assert await channel.refused(commands.Basic.Get(0, name)) == ChannelClosed(
        404, f"NOT_FOUND - no queue '{name}' in vhost '/'", 60, 70
    )

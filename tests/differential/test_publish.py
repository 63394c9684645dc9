"""basic.publish: what is refused, what is returned, and that content arrives as it was sent."""

from __future__ import annotations

import datetime
import struct
from typing import Any

import pytest
from pamqp import commands

from tests.support.amqp_probe import BODY, HEADER, Channel, ChannelClosed, ConnectionClosed, Message
from tests.support.rabbitmq import unique


async def test_missing_exchange_is_not_found(channel: Channel) -> None:
    name = unique("missing")
    channel.publish(b"x", "k", exchange=name)
    assert await channel.closed() == ChannelClosed(
        404, f"NOT_FOUND - no exchange '{name}' in vhost '/'", 60, 40
    )


async def test_immediate_is_not_implemented(channel: Channel) -> None:
    channel.publish(b"x", "k", immediate=True)
    assert await channel.closed() == ConnectionClosed(540, "NOT_IMPLEMENTED - immediate=true", 60, 40)


async def test_unroutable_message_is_dropped_unless_mandatory(channel: Channel) -> None:
    key = unique("nobody")
    channel.publish(b"1", key)
    channel.publish(b"2", key, mandatory=True, headers={"a": 1}, message_id="m")
    returned = await channel.message()
    assert isinstance(returned.method, commands.Basic.Return)
    method = returned.method
    assert (method.reply_code, method.reply_text) == (312, "NO_ROUTE")
    assert (method.exchange, method.routing_key) == ("", key)
    assert (returned.body, returned.properties) == (b"2", {"headers": {"a": 1}, "message_id": "m"})


async def test_mandatory_message_that_is_routed_is_not_returned(channel: Channel) -> None:
    queue = await channel.queue()
    channel.publish(b"x", queue, mandatory=True)
    assert await channel.bodies(queue) == [b"x"]


@pytest.mark.parametrize(
    ("expiration", "why"),
    [
        ("soon", "no_integer"),
        ("-1", "{value_negative,-1}"),
        ("1.5", '{leftover_string,".5"}'),
        (" 5", "no_integer"),
        ("5 ", '{leftover_string," "}'),
    ],
)
async def test_bad_expiration_is_refused(channel: Channel, expiration: str, why: str) -> None:
    channel.publish(b"x", "k", expiration=expiration)
    assert await channel.closed() == ChannelClosed(
        406, f"PRECONDITION_FAILED - invalid expiration '{expiration}': {why}", 60, 40
    )


async def test_user_id_must_be_the_connections(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.put(queue, b"mine", user_id="guest")
    assert (await channel.take(queue)).properties == {"user_id": "guest"}
    channel.publish(b"x", queue, user_id="bob")
    assert await channel.closed() == ChannelClosed(
        406,
        "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'",
        60,
        40,
    )


async def test_all_properties_arrive_as_they_were(channel: Channel) -> None:
    queue = await channel.queue()
    properties: dict[str, Any] = {
        "content_type": "text/plain",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "priority": 7,
        "correlation_id": "c",
        "reply_to": "r",
        "expiration": "60000",
        "message_id": "m",
        "timestamp": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "message_type": "t",
        "user_id": "guest",
        "app_id": "a",
    }
    headers = {"text": "ü", "number": 1, "yes": True, "nothing": None, "list": [1, "a", {"b": 2.5}]}
    await channel.put(queue, b"x", headers=headers, **properties)
    message = await channel.take(queue)
    assert message.properties == properties | {"headers": headers}


async def test_header_comes_back_byte_for_byte(channel: Channel) -> None:
    queue = await channel.queue()
    table = b"\x01aS\x00\x00\x00\x01z\x01aB\xff\x00V"  # a name twice, and an empty one
    flags = (1 << 13 | 1 << 15).to_bytes(2, "big")
    content_type = b"\x03a/b"
    properties = flags + content_type + len(table).to_bytes(4, "big") + table
    channel.send(commands.Basic.Publish(0, "", queue))
    channel.probe.send_raw(HEADER, channel.number, struct.pack(">HHQ", 60, 0, 1) + properties)
    channel.probe.send_raw(BODY, channel.number, b"x")
    message = await channel.take(queue)
    assert message.raw_header == struct.pack(">HHQ", 60, 0, 1) + properties


@pytest.mark.parametrize("size", [0, 1, 131064, 131065, 400_000])
async def test_body_of_any_size_arrives_whole(channel: Channel, size: int) -> None:
    queue = await channel.queue()
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    channel.publish(body, queue)
    assert (await channel.take(queue)).body == body


async def test_body_in_many_small_frames_arrives_whole(channel: Channel) -> None:
    queue = await channel.queue()
    channel.send(commands.Basic.Publish(0, "", queue))
    channel.probe.send_raw(HEADER, channel.number, struct.pack(">HHQH", 60, 0, 100, 0))
    for number in range(100):
        channel.probe.send_raw(BODY, channel.number, bytes([number]))
    assert (await channel.take(queue)).body == bytes(range(100))


async def test_body_above_the_limit_is_refused(channel: Channel) -> None:
    limit = 128 * 1024 * 1024
    size = limit + 1
    channel.send(commands.Basic.Publish(0, "", unique("nobody")))
    channel.probe.send_raw(HEADER, channel.number, struct.pack(">HHQH", 60, 0, size, 0))
    chunk = bytes(131064)
    for start in range(0, size, len(chunk)):
        channel.probe.send_raw(BODY, channel.number, chunk[: size - start])
        await channel.probe.drain()
    assert await channel.closed() == ChannelClosed(
        406,
        f"PRECONDITION_FAILED - message size {size} is larger than configured max size {limit}",
        60,
        40,
    )


async def test_messages_of_one_channel_keep_their_order(channel: Channel) -> None:
    queue = await channel.queue()
    bodies = [str(number).encode() for number in range(200)]
    for body in bodies:
        channel.publish(body, queue)
    await channel.consume(queue, no_ack=True)
    assert await channel.messages(200) == bodies


async def test_message_is_copied_to_every_matching_queue(channel: Channel) -> None:
    name = await channel.exchange(unique("x"), "fanout", auto_delete=True)
    queues = [await channel.queue() for _ in range(2)]
    for queue in queues:
        await channel.bind(queue, name)
    await channel.put("", b"x", exchange=name, headers={"a": 1})
    first, second = [await channel.get(queue) for queue in queues]
    assert isinstance(first, Message) and isinstance(second, Message)
    channel.nack(first.tag, requeue=True)
    assert (second.body, second.headers, second.redelivered) == (b"x", {"a": 1}, False)


async def test_sender_selected_distribution_adds_keys(channel: Channel) -> None:
    one, two, three = [await channel.queue() for _ in range(3)]
    headers = {"CC": [two], "BCC": [three]}
    await channel.put(one, b"x", headers=headers)
    assert (await channel.take(one)).headers == {"CC": [two]}, "BCC is removed"
    assert (await channel.take(two)).headers == {"CC": [two]}
    assert (await channel.take(three)).headers == {"CC": [two]}


async def test_sender_selected_keys_must_be_a_list(channel: Channel) -> None:
    channel.publish(b"x", "k", headers={"CC": "not a list"})
    closed = await channel.closed()
    assert isinstance(closed, ChannelClosed)
    assert (closed.code, closed.class_id, closed.method_id) == (406, 60, 40)


async def test_message_of_20_mib_is_taken(channel: Channel) -> None:
    """RabbitMQ's default limit is 128 MiB."""
    queue = await channel.queue()
    body = bytes(range(256)) * (80 * 1024)
    channel.publish(body, queue)
    await channel.probe.drain()
    await channel.settled(queue)
    message = await channel.take(queue)
    assert message.body == body

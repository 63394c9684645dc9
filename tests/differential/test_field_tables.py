"""Field tables as RabbitMQ reads them: which letter is which type, and that they come back as sent.

Headers are usually passed on as bytes. Where the broker adds to them (dead letters), it has to
decode and encode all of them, and that is where a wrong reading shows.
"""

from __future__ import annotations

import struct

import pytest
from pamqp import commands

from tests.support.amqp_probe import BODY, HEADER, Channel, ConnectionClosed, Message
from tests.support.rabbitmq import unique

WITH_HEADERS = 1 << 13


def publish(channel: Channel, key: str, table: bytes, *, exchange: str = "") -> None:
    channel.send(commands.Basic.Publish(0, exchange, key))
    head = struct.pack(">HHQH", 60, 0, 1, WITH_HEADERS) + struct.pack(">I", len(table)) + table
    channel.probe.send_raw(HEADER, channel.number, head)
    channel.probe.send_raw(BODY, channel.number, b"x")


def raw_table(message: Message) -> bytes:
    """The bytes of the headers, of a message that has no other property."""
    flags, size = struct.unpack(">HI", message.raw_header[12:18])
    assert flags == WITH_HEADERS
    assert len(message.raw_header) == 18 + size
    return message.raw_header[18:]


VALUES = {
    "boolean": b"t\x01",
    "signed 8": b"b\xff",
    "unsigned 8": b"B\xff",
    "signed 16": b"s\xff\xfe",
    "unsigned 16": b"u\xff\xfe",
    "signed 32": b"I\xff\xff\xff\xfe",
    "unsigned 32": b"i\xff\xff\xff\xfe",
    "signed 64 as l": b"l\xff\xff\xff\xff\xff\xff\xff\xfe",
    "signed 64 as L": b"L\xff\xff\xff\xff\xff\xff\xff\xfe",
    "float": b"f" + struct.pack(">f", 1.5),
    "double": b"d" + struct.pack(">d", 1.1),
    "decimal": b"D\x02" + struct.pack(">I", 314),
    "long string": b"S\x00\x00\x00\x02\xc3\xbc",
    "timestamp": b"T" + struct.pack(">Q", 1_700_000_000),
    "bytes": b"x\x00\x00\x00\x03\x00\xff\x01",
    "void": b"V",
    "table": b"F\x00\x00\x00\x04\x01at\x01",
    "array": b"A\x00\x00\x00\x04t\x01b\x05",
    "empty array": b"A\x00\x00\x00\x00",
    "empty table": b"F\x00\x00\x00\x00",
}


@pytest.mark.parametrize("kind", VALUES)
async def test_value_comes_back_as_it_was_sent(channel: Channel, kind: str) -> None:
    queue = await channel.queue()
    table = b"\x04name" + VALUES[kind]
    publish(channel, queue, table)
    assert raw_table(await channel.take(queue)) == table


@pytest.mark.parametrize("kind", VALUES)
async def test_value_survives_being_decoded_and_encoded(channel: Channel, kind: str) -> None:
    dead = await channel.queue()
    queue = await channel.queue(
        unique(), x_message_ttl=0, x_dead_letter_exchange="", x_dead_letter_routing_key=dead
    )
    publish(channel, queue, b"\x04name" + VALUES[kind])
    await channel.consume(dead, no_ack=True)
    table = raw_table(await channel.message())
    assert b"\x07x-death" in table
    # RabbitMQ keeps one letter of each pair that mean the same.
    expected = VALUES[kind].replace(b"L", b"l", 1) if kind == "signed 64 as L" else VALUES[kind]
    assert b"\x04name" + expected in table


@pytest.mark.parametrize(
    ("bound", "sent", "matches"),
    [
        (b"l" + struct.pack(">q", -5), b"L" + struct.pack(">q", -5), True),
        (b"l" + struct.pack(">q", -5), b"b\xfb", True),
        (b"b\xfb", b"B\xfb", False),
        (b"B\xfb", b"s\x00\xfb", True),
        (b"u\xff\xff", b"i\x00\x00\xff\xff", True),
        (b"u\xff\xff", b"s\xff\xff", False),
        (b"I\x00\x00\x00\x01", b"t\x01", False),
        (b"S\x00\x00\x00\x01a", b"x\x00\x00\x00\x01a", True),
        (b"f" + struct.pack(">f", 1.5), b"d" + struct.pack(">d", 1.5), True),
    ],
)
async def test_values_are_compared_by_what_they_mean(
    channel: Channel, bound: bytes, sent: bytes, matches: bool
) -> None:
    queue = await channel.queue(unique())
    name = await channel.exchange(unique("x"), "headers", auto_delete=True)
    table = b"\x01a" + bound
    head = (
        b"\x00\x00" + bytes([len(queue)]) + queue.encode() + bytes([len(name)]) + name.encode() + b"\x00\x00"
    )
    channel.probe.send_method(channel.number, 50, 20, head + struct.pack(">I", len(table)) + table)
    await channel.expect(commands.Queue.BindOk)
    publish(channel, "", b"\x01a" + sent, exchange=name)
    await channel.put(queue, b"end")
    assert await channel.bodies(queue) == [b"x", b"end"] if matches else [b"end"]


async def test_unknown_type_of_value_ends_the_connection(channel: Channel) -> None:
    name = b"\x00\x00\x01q\x00"
    table = b"\x01a?\x00"
    channel.probe.send_method(channel.number, 50, 10, name + struct.pack(">I", len(table)) + table)
    try:
        closed = await channel.closed()
    except EOFError:
        return  # RabbitMQ 3.10 itself crashes here
    assert isinstance(closed, ConnectionClosed)
    assert closed.code in (501, 502)


async def test_table_longer_than_its_frame_ends_the_connection(channel: Channel) -> None:
    channel.probe.send_method(channel.number, 50, 10, b"\x00\x00\x01q\x00\x00\x00\xff\xff\x01a")
    closed = await channel.closed()
    assert isinstance(closed, ConnectionClosed)
    assert (closed.code, closed.class_id, closed.method_id) == (501, 50, 10)

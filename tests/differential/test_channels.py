"""Channels: opening, closing, what happens after an error, and frames out of place."""

from __future__ import annotations

import struct

import pytest
from pamqp import commands

from tests.support.amqp_probe import (
    BODY,
    HEADER,
    METHOD,
    Channel,
    ChannelClosed,
    ConnectionClosed,
    Probe,
    declare,
)
from tests.support.broker import Connect
from tests.support.rabbitmq import unique

NOT_OPEN = "CHANNEL_ERROR - expected 'channel.open'"
NO_METHOD = "UNEXPECTED_FRAME - expected method frame, got non method frame instead"
NO_HEADER = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"
NO_BODY = "UNEXPECTED_FRAME - expected content body, got non content body frame instead"


def content_header(size: int, *, class_id: int = 60) -> bytes:
    return struct.pack(">HHQH", class_id, 0, size, 0)


@pytest.mark.parametrize(
    ("method", "ids"),
    [
        (declare("q", passive=True), (50, 10)),
        (commands.Basic.Ack(1), (60, 80)),
        (commands.Channel.Close(200, "", 0, 0), (20, 40)),
        (commands.Channel.CloseOk(), (20, 41)),
    ],
)
async def test_channel_that_is_not_open_is_a_channel_error(
    connection: Probe, method: commands.Basic.Ack, ids: tuple[int, int]
) -> None:
    connection.send(method, 7)
    assert await connection.closed() == ConnectionClosed(504, NOT_OPEN, *ids)


async def test_second_open_is_a_channel_error(channel: Channel) -> None:
    assert await channel.refused(commands.Channel.Open()) == ConnectionClosed(
        504, "CHANNEL_ERROR - second 'channel.open' seen", 20, 10
    )


@pytest.mark.parametrize("number", [1, 2047, 2048, 65535])
async def test_any_channel_number_can_be_used(connection: Probe, number: int) -> None:
    channel = await connection.channel(number)
    assert await channel.queue()


async def test_limit_counts_open_channels_not_numbers(connect: Connect) -> None:
    probe = await connect(channel_max=2)
    await probe.channel(5)
    second = await probe.channel(6)
    await second.close()
    await probe.channel(9)
    probe.send(commands.Channel.Open(), 1)
    assert await probe.closed() == ConnectionClosed(
        530, "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)", 0, 0
    )


async def test_closed_channel_can_be_opened_again(connection: Probe) -> None:
    channel = await connection.channel(3)
    await channel.close()
    again = await connection.channel(3)
    assert await again.queue()


async def test_methods_on_a_channel_closed_by_error_are_ignored_until_close_ok(connection: Probe) -> None:
    channel = await connection.channel()
    name = unique()
    channel.send(declare("missing-" + name, passive=True))
    channel.send(declare(name))
    channel.publish(b"lost", name)
    closed = await channel.next()
    assert isinstance(closed, commands.Channel.Close)
    channel.send(declare(name))
    channel.send(commands.Channel.CloseOk())
    other = await connection.channel()
    assert await other.refused(declare(name, passive=True)) == ChannelClosed(
        404, f"NOT_FOUND - no queue '{name}' in vhost '/'", 50, 10
    )
    reopened = await connection.channel(channel.number)
    assert await reopened.queue()


async def test_close_crossing_a_close_is_confirmed(connection: Probe) -> None:
    channel = await connection.channel()
    channel.send(declare(unique("missing"), passive=True))
    channel.send(commands.Channel.Close(200, "bye", 0, 0))
    assert isinstance(await channel.next(), commands.Channel.Close)
    assert isinstance(await channel.next(), commands.Channel.CloseOk)
    channel.send(commands.Channel.CloseOk())
    await connection.channel(channel.number)


async def test_unacked_messages_of_a_closed_channel_come_back_in_place_and_redelivered(
    connection: Probe,
) -> None:
    first, second = await connection.channel(), await connection.channel()
    queue = await first.queue()
    await first.put(queue, b"1", b"2", b"3")
    assert (await first.get(queue)) and (await first.get(queue))
    await first.close()
    taken = [await second.take(queue) for _ in range(3)]
    assert [(one.body, one.redelivered) for one in taken] == [(b"1", True), (b"2", True), (b"3", False)]


async def test_consumers_end_with_their_channel(connection: Probe) -> None:
    first, second = await connection.channel(), await connection.channel()
    queue = await first.queue()
    await first.consume(queue)
    assert await second.counts(queue) == (0, 1)
    await first.close()
    assert await second.counts(queue) == (0, 0)


async def test_flow_can_be_asked_for_but_not_stopped(connection: Probe) -> None:
    channel = await connection.channel()
    ok = await channel.rpc(commands.Channel.Flow(True), commands.Channel.FlowOk)
    assert ok.active is True
    assert await channel.refused(commands.Channel.Flow(False)) == ConnectionClosed(
        540, "NOT_IMPLEMENTED - active=false", 20, 20
    )


@pytest.mark.parametrize(("kind", "payload"), [(BODY, b"x"), (HEADER, content_header(0))])
async def test_content_without_a_publish_is_unexpected(channel: Channel, kind: int, payload: bytes) -> None:
    channel.probe.send_raw(kind, channel.number, payload)
    assert await channel.closed() == ConnectionClosed(505, NO_METHOD, 0, 0)


async def test_publish_must_be_followed_by_a_header(channel: Channel) -> None:
    channel.send(commands.Basic.Publish(0, "", "k"))
    assert await channel.refused(declare("q", passive=True)) == ConnectionClosed(505, NO_HEADER, 60, 40)


async def test_publish_followed_by_a_body_is_unexpected(channel: Channel) -> None:
    channel.send(commands.Basic.Publish(0, "", "k"))
    channel.probe.send_raw(BODY, channel.number, b"x")
    assert await channel.closed() == ConnectionClosed(505, NO_HEADER, 60, 40)


async def test_header_of_another_class_is_unexpected(channel: Channel) -> None:
    channel.send(commands.Basic.Publish(0, "", "k"))
    channel.probe.send_raw(HEADER, channel.number, content_header(0, class_id=50))
    text = "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead"
    assert await channel.closed() == ConnectionClosed(505, text, 60, 40)


@pytest.mark.parametrize(
    ("kind", "payload"), [(METHOD, b"\x00\x14\x00\x14\x01"), (HEADER, content_header(3))]
)
async def test_anything_but_a_body_within_a_content_is_unexpected(
    channel: Channel, kind: int, payload: bytes
) -> None:
    channel.send(commands.Basic.Publish(0, "", "k"))
    channel.probe.send_raw(HEADER, channel.number, content_header(3))
    channel.probe.send_raw(kind, channel.number, payload)
    assert await channel.closed() == ConnectionClosed(505, NO_BODY, 60, 40)


async def test_contents_on_two_channels_may_interleave(connection: Probe) -> None:
    first, second = await connection.channel(), await connection.channel()
    queue = await first.queue()
    for channel in (first, second):
        await channel.confirms()
        channel.send(commands.Basic.Publish(0, "", queue))
    for channel in (second, first):
        connection.send_raw(HEADER, channel.number, content_header(2))
    connection.send_raw(BODY, 1, b"a")
    connection.send_raw(BODY, 2, b"b")
    connection.send_raw(BODY, 2, b"b")
    assert await second.outcomes(1) == {1: "ack"}
    connection.send_raw(BODY, 1, b"a")
    assert await first.outcomes(1) == {1: "ack"}
    assert await first.bodies(queue) == [b"bb", b"aa"]


async def test_frame_larger_than_agreed_is_a_frame_error(connect: Connect) -> None:
    probe = await connect(frame_max=4096)
    channel = await probe.channel()
    probe.send_raw(BODY, channel.number, b"x" * 4097)
    closed = await channel.closed()
    assert isinstance(closed, ConnectionClosed)
    assert (closed.code, closed.class_id, closed.method_id) == (501, 0, 0)
    assert closed.text == "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4097,4088}"


async def test_bad_end_of_a_frame_is_a_frame_error(channel: Channel) -> None:
    channel.probe.send_raw(METHOD, 1, b"\x00\x14\x00\x14\x01", end=b"\x00")
    assert await channel.closed() == ConnectionClosed(
        501, "FRAME_ERROR - type 1, all octets = <<0,20,0,20,1>>: {invalid_frame_end_marker,0}", 0, 0
    )


async def test_unknown_type_of_frame_is_a_frame_error(channel: Channel) -> None:
    channel.probe.send_raw(5, 1, b"abc")
    assert await channel.closed() == ConnectionClosed(
        501, 'FRAME_ERROR - type 5, all octets = <<"abc">>: unknown_frame', 0, 0
    )


async def test_heartbeat_on_a_channel_is_unexpected(channel: Channel) -> None:
    channel.probe.send_raw(8, 1, b"")
    assert await channel.closed() == ConnectionClosed(
        505, "UNEXPECTED_FRAME - type 8, all octets = <<>>", 0, 0
    )


@pytest.mark.parametrize(
    ("method", "arguments", "shown"),
    [
        ((50, 10), b"\x00\x00\x05ab", "<<0,0,5,97,98>>"),
        ((20, 20), b"\x00zzzz", "<<0,122,122,122,122>>"),
        ((60, 200), b"", "<<>>"),
    ],
)
async def test_method_that_cannot_be_read_is_a_frame_error(
    channel: Channel, method: tuple[int, int], arguments: bytes, shown: str
) -> None:
    channel.probe.send_method(1, *method, arguments)
    assert await channel.closed() == ConnectionClosed(501, f"FRAME_ERROR - cannot decode {shown}", *method)


async def test_method_of_an_unknown_class_ends_the_connection(channel: Channel) -> None:
    channel.probe.send_method(1, 99, 1)
    try:
        closed = await channel.closed()
    except EOFError:
        return  # RabbitMQ 3.10 itself crashes here
    assert isinstance(closed, ConnectionClosed)


@pytest.mark.parametrize(
    ("method", "ids"),
    [
        (commands.Queue.DeclareOk("q", 1, 1), (50, 11)),
        (commands.Basic.CancelOk("t"), (60, 31)),
        (commands.Connection.Open("/"), (10, 40)),
    ],
)
async def test_method_that_servers_send_is_a_command_invalid(
    channel: Channel, method: commands.Queue.DeclareOk, ids: tuple[int, int]
) -> None:
    assert await channel.refused(method) == ConnectionClosed(
        503, "COMMAND_INVALID - unimplemented method", *ids
    )


async def test_text_of_a_close_is_cut_to_a_short_string(channel: Channel) -> None:
    name = "q" * 250
    closed = await channel.refused(declare(name, passive=True))
    assert isinstance(closed, ChannelClosed)
    full = f"NOT_FOUND - no queue '{name}' in vhost '/'"
    assert closed.code == 404
    assert len(closed.text) <= 255
    assert full.startswith(closed.text.removesuffix("..."))

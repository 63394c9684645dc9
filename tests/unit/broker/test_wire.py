"""Frames and methods are compatible with pamqp; malformed input is an AMQP error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import base, body, commands, frame, header

from msctl.broker.protocol import wire
from msctl.broker.protocol.replies import AmqpError, ReplyCode

short = st.text(max_size=40).filter(lambda text: len(text.encode()) <= 255)


@given(st.binary(max_size=300), st.integers(0, 65535), st.sampled_from([1, 2, 3, 8]))
def test_frame_is_read_once_it_is_complete(payload: bytes, channel: int, kind: int) -> None:
    raw = wire.write_frame(kind, channel, payload)
    assert wire.read_frame(raw + b"more", 0, 4096) == (kind, channel, payload, len(raw))
    for cut in range(len(raw)):
        assert wire.read_frame(raw[:cut], 0, 4096) is None


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_a_frame_incomplete_or_an_error(raw: bytes) -> None:
    try:
        wire.read_frame(raw, 0, 4096)
    except AmqpError as error:
        assert error.code is ReplyCode.FRAME_ERROR


def test_oversized_frame_is_refused_from_its_header() -> None:
    with pytest.raises(AmqpError, match="frame_too_large,5000,4088"):
        wire.read_frame(wire.FRAME.pack(1, 0, 5000), 0, 4096)


def test_wrong_frame_end_is_a_frame_error() -> None:
    with pytest.raises(AmqpError, match="invalid_frame_end_marker,0"):
        wire.read_frame(wire.FRAME.pack(1, 0, 1) + b"x\x00", 0, 4096)


@given(short, short, st.booleans(), st.booleans())
def test_publish_of_pamqp_is_decoded(exchange: str, key: str, mandatory: bool, immediate: bool) -> None:
    payload = (
        b"\x00\x3c\x00\x28\x00\x00" + wire.route_of(exchange, key) + bytes((mandatory | immediate << 1,))
    )
    assert wire.decode_arguments(commands.Basic.Publish, payload) == [
        0,
        exchange,
        key,
        mandatory,
        immediate,
    ]
    assert wire.split_route(wire.route_of(exchange, key)) == (exchange, key)


EXAMPLES: list[base.Frame] = [
    commands.Connection.Tune(2047, 131072, 60),
    commands.Connection.Close(320, "bye", 10, 50),
    commands.Connection.Blocked("low on memory"),
    commands.Channel.Flow(active=True),
    commands.Exchange.Declare(0, "x", "topic", False, True, True, True, False, {}),
    commands.Queue.Declare(0, "q", False, True, False, True, False, {}),
    commands.Queue.DeclareOk("q", 7, 3),
    commands.Basic.Qos(0, 100, True),
    commands.Basic.Nack(5, True, False),
    commands.Basic.Deliver("tag", 2**40, True, "x", "key"),
    commands.Basic.Return(312, "NO_ROUTE", "x", "key"),
    commands.Tx.Commit(),
]


@pytest.mark.parametrize("method", EXAMPLES, ids=lambda method: method.name)
def test_methods_are_encoded_like_pamqp(method: base.Frame) -> None:
    arguments = [{} if value is None else value for _, value in method]
    raw = wire.encode_method(7, type(method), *arguments)
    assert raw == frame.marshal(method, 7)
    read = wire.read_frame(raw, 0, 0)
    assert read is not None
    assert wire.method_of(read.payload) is type(method)
    assert wire.decode_arguments(type(method), read.payload) == arguments


def test_table_of_pamqp_is_decoded() -> None:
    method = commands.Queue.Declare(queue="q", arguments={"x-message-ttl": 1000, "x-overflow": "drop-head"})
    read = wire.read_frame(frame.marshal(method, 1), 0, 0)
    assert read is not None
    table = wire.decode_arguments(commands.Queue.Declare, read.payload)[-1]
    assert {name: value for name, (_, value) in table.items()} == {
        b"x-message-ttl": 1000,
        b"x-overflow": b"drop-head",
    }


@given(st.sampled_from(sorted(commands.INDEX_MAPPING)), st.binary(max_size=100))
def test_arbitrary_arguments_are_decoded_or_a_frame_error(method_id: int, raw: bytes) -> None:
    payload = wire.METHOD_ID.pack(method_id) + raw
    try:
        wire.decode_arguments(wire.method_of(payload), payload)
    except AmqpError as error:
        assert error.code is ReplyCode.FRAME_ERROR


def test_unknown_method_is_a_frame_error() -> None:
    with pytest.raises(AmqpError, match="cannot decode <<1>>"):
        wire.method_of(b"\x00\x63\x00\x01\x01")


def test_short_string_must_be_utf8() -> None:
    with pytest.raises(AmqpError, match="Malformed UTF-8"):
        wire.decode_arguments(commands.Queue.Purge, b"\x00\x32\x00\x1e\x00\x00\x01\xff\x00")


@given(st.binary(max_size=20_000), st.sampled_from([4096, 5000, 131072, 0]))
def test_content_frames_keep_to_the_limit(data: bytes, frame_max: int) -> None:
    raw = wire.content_frames(3, b"\x00\x00", data, frame_max)
    joined, largest = b"", 0
    used, channel, head = frame.unmarshal(raw)
    assert isinstance(head, header.ContentHeader) and head.body_size == len(data)
    while used < len(raw):
        step, channel, part = frame.unmarshal(raw[used:])
        assert isinstance(part, body.ContentBody) and channel == 3
        joined += part.value or b""
        largest = max(largest, step)
        used += step
    assert joined == data
    assert not frame_max or largest <= frame_max

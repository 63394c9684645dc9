"""A server's reader of WebSocket frames takes what RFC 6455 allows, however it is cut, and nothing else."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.hosting.asgi import websocket_frames
from msctl.hosting.asgi.websocket_frames import (
    BINARY,
    CLOSE,
    INVALID_DATA,
    NO_CODE,
    PING,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    Closed,
    Compressed,
    Control,
    FrameError,
    FrameReader,
    Received,
    accept_key,
    close_frame,
    frame,
)

MASK = b"\x01\x82\x03\x84"


def sent(opcode: int, payload: bytes, *, final: bool = True, reserved: int = 0) -> bytes:
    """A client's frame; a long one is masked with zeros, which takes no time."""
    size = len(payload)
    mask = MASK if size < 1000 else bytes(4)
    head = bytes([(0x80 if final else 0) | reserved | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 0x10000:
        head += bytes([0xFE]) + struct.pack("!H", size)
    else:
        head += bytes([0xFF]) + struct.pack("!Q", size)
    masked = payload if size >= 1000 else bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return head + mask + masked


def read(*pieces: bytes, limit: int = 1_000_000, compression: bool = False) -> list[Received]:
    reader, found = FrameReader(limit, compression=compression), list[Received]()
    for piece in pieces:
        reader.feed(piece, found)
    return found


MESSAGES = st.one_of(st.text(max_size=150), st.binary(max_size=150), st.integers(65_530, 65_540).map(bytes))


@given(st.lists(MESSAGES, max_size=3), st.data())
def test_messages_arrive_however_they_are_cut(messages: list[str | bytes], data: st.DataObject) -> None:
    stream = b""
    for message in messages:
        payload = message.encode() if isinstance(message, str) else message
        cut = data.draw(st.integers(0, len(payload)))
        opcode = TEXT if isinstance(message, str) else BINARY
        stream += sent(opcode, payload[:cut], final=False) + sent(PING, b"between")
        stream += sent(0, payload[cut:])
    at = data.draw(st.integers(0, len(stream)))
    received = read(stream[:at], stream[at:])
    assert [one for one in received if not isinstance(one, Control)] == messages
    assert received.count(Control(PING, b"between")) == len(messages)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\x81\x02hi", PROTOCOL_ERROR),  # not masked
        (bytes([0xC1]) + sent(TEXT, b"hi")[1:], PROTOCOL_ERROR),  # a reserved bit
        (sent(3, b""), PROTOCOL_ERROR),  # an unknown opcode
        (sent(0, b"hi"), PROTOCOL_ERROR),  # a continuation of nothing
        (sent(TEXT, b"a", final=False) + sent(TEXT, b"b"), PROTOCOL_ERROR),
        (sent(PING, b"", final=False), PROTOCOL_ERROR),
        (sent(PING, b"x" * 126), PROTOCOL_ERROR),
        (sent(CLOSE, b"x"), PROTOCOL_ERROR),
        (sent(CLOSE, struct.pack("!H", 1005)), PROTOCOL_ERROR),
        (sent(CLOSE, struct.pack("!H", 2999)), PROTOCOL_ERROR),
        (sent(CLOSE, struct.pack("!H", 1000) + b"\xff"), INVALID_DATA),
        (sent(TEXT, b"\xff"), INVALID_DATA),
        (sent(TEXT, b"\xc3"), INVALID_DATA),  # cut in the middle of a character
        (sent(TEXT, b"\xff", final=False), INVALID_DATA),  # before the message ends
        (sent(TEXT, b"\xff" + b"x" * 50)[:10], INVALID_DATA),  # before the frame ends
        (sent(BINARY, b"x" * 1001), TOO_BIG),
        (sent(BINARY, b"x" * 600, final=False) + sent(0, b"x" * 600), TOO_BIG),
        (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff" + MASK, TOO_BIG),  # before the payload arrives
    ],
)
def test_broken_frames_have_a_close_code(wire: bytes, code: int) -> None:
    with pytest.raises(FrameError) as raised:
        read(wire, limit=1000)
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("wire", "agreed"),
    [
        (sent(TEXT, b"x", reserved=0x40), False),
        (sent(TEXT, b"x", reserved=0x20), True),
        (sent(TEXT, b"x", reserved=0x50), True),
        (sent(PING, b"x", reserved=0x40), True),
        (sent(CLOSE, b"", reserved=0x40), True),
        (sent(TEXT, b"x", final=False, reserved=0x40) + sent(0, b"y", reserved=0x40), True),
        (sent(TEXT, b"x", final=False) + sent(0, b"y", reserved=0x40), True),
    ],
)
def test_reserved_bit_is_allowed_only_at_the_start_of_a_compressed_message(wire: bytes, agreed: bool) -> None:
    with pytest.raises(FrameError) as raised:
        read(wire, compression=agreed)
    assert raised.value.code == PROTOCOL_ERROR


def test_compressed_and_other_messages_alternate() -> None:
    wire = sent(TEXT, b"ab", final=False, reserved=0x40) + sent(PING, b"") + sent(0, b"\xff")
    wire += (
        sent(TEXT, b"c", final=False) + sent(0, b"d") + sent(BINARY, b"e", reserved=0x40) + sent(TEXT, b"")
    )
    assert read(wire, compression=True) == [
        Control(PING, b""),
        Compressed(TEXT, b"ab\xff"),
        "cd",
        Compressed(BINARY, b"e"),
        "",
    ]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_message_of_many_fragments_takes_little_more_memory_than_its_length(opcode: int) -> None:
    reader = FrameReader(1_000_000)
    fragments = sent(0, b"ab", final=False) * 1000 + sent(0, b"", final=False) * 1000
    reader.feed(sent(opcode, b"", final=False), [])
    tracemalloc.start()
    try:
        for _ in range(3):
            reader.feed(fragments, [])
        # Of the reader alone: other tests' threads may be at work.
        kept = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(True, websocket_frames.__file__)]
        )
    finally:
        tracemalloc.stop()
    assert sum(trace.size for trace in kept.traces) < 60_000


def test_what_came_before_a_broken_frame_is_kept() -> None:
    reader, found = FrameReader(1000), list[Received]()
    with pytest.raises(FrameError):
        reader.feed(sent(TEXT, b"good") + sent(3, b""), found)
    assert found == ["good"]


def test_close_frame_carries_code_and_reason() -> None:
    assert read(sent(CLOSE, b"")) == [Closed(NO_CODE, "")]
    assert read(sent(CLOSE, struct.pack("!H", 4001) + "grün".encode())) == [Closed(4001, "grün")]
    assert close_frame(1000, "ü" * 100)[1] <= 125
    assert close_frame(NO_CODE, "") == b"\x88\x00"


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frame_says_its_length_in_the_shortest_form(size: int) -> None:
    head = frame(BINARY, b"x" * size)[: -size or None]
    assert len(head) == 2 + (0 if size < 126 else 2 if size < 65_536 else 8)


def test_accept_key_is_that_of_the_rfc() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert accept_key(b"c2hvcnQ=") is None
    assert accept_key(b"\xff") is None

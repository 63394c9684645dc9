"""Bytes to frames and methods, and back. No sockets, no state.

The definitions of methods are pamqp's. Arguments are decoded and encoded here, because RabbitMQ's
field tables differ from pamqp's and keep types that pamqp drops. The frequent frames (publish,
deliver, content) are built directly from bytes.
Source: AMQP 0-9-1 section 2.3 (framing) and 4.2 (wire format).
"""

from __future__ import annotations

from struct import Struct, error
from typing import Any, NamedTuple

from pamqp import base, commands

from msctl.broker.protocol.replies import AmqpError, ReplyCode, erlang_binary, frame_error
from msctl.broker.protocol.tables import MalformedError, Table, decode_table, encode_table

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
FRAME_END_BYTE = b"\xce"
FRAME_OVERHEAD = 8
FRAME_MIN = 4096
"""The frame size that every peer must accept, and the limit before tuning."""
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"
BASIC_CLASS = 60

FRAME = Struct(">BHI")
METHOD_ID = Struct(">I")
CONTENT = Struct(">HHQ")
"""The start of a content header's payload: class, weight, body size."""
DELIVERY = Struct(">Q?")
"""A delivery tag and the redelivered (or multiple) bit."""
ACK_FRAME = Struct(">BHIIQ?B")
_LENGTH = Struct(">I")

BASIC_PUBLISH = commands.Basic.Publish.index
BASIC_ACK = commands.Basic.Ack.index
BASIC_NACK = commands.Basic.Nack.index

MethodType = type[base.Frame]


class Content(NamedTuple):
    """A content header and body, with the positions of the body and of the next frame."""

    properties: bytes
    body: bytes
    body_at: int
    end: int


class Frame(NamedTuple):
    """One complete frame; `end` is the position of the next one."""

    kind: int
    channel: int
    payload: bytes
    end: int


def read_frame(data: bytes, position: int, frame_max: int) -> Frame | None:
    """The frame at `position`, or None if it is incomplete.

    `frame_max` includes the frame's header and end octet; 0 is no limit. Raises AmqpError 501 as soon
    as the frame is known to be invalid.
    """
    if len(data) - position < FRAME.size:
        return None
    kind, channel, size = FRAME.unpack_from(data, position)
    # RabbitMQ also accepts frames whose payload alone is frame_max long.
    if frame_max and size > frame_max:
        raise frame_error(
            f"type {kind}, all octets = <<>>: {{frame_too_large,{size},{frame_max - FRAME_OVERHEAD}}}"
        )
    start = position + FRAME.size
    stop = start + size
    if stop >= len(data):
        return None
    payload = data[start:stop]
    if data[stop] != FRAME_END:
        raise frame_error(f"{describe(kind, payload)}: {{invalid_frame_end_marker,{data[stop]}}}")
    return Frame(kind, channel, payload, stop + 1)


def describe(kind: int, payload: bytes) -> str:
    """A frame as RabbitMQ's texts show it: type and first octets."""
    which = "all" if len(payload) <= 16 else "first 16"
    return f"type {kind}, {which} octets = {erlang_binary(payload[:16])}"


def write_frame(kind: int, channel: int, payload: bytes) -> bytes:
    return FRAME.pack(kind, channel, len(payload)) + payload + FRAME_END_BYTE


# --- methods ----------------------------------------------------------------------------------

_NUMBERS = {
    "octet": Struct(">B"),
    "short": Struct(">H"),
    "long": Struct(">I"),
    "longlong": Struct(">Q"),
    "timestamp": Struct(">Q"),
}
_METHODS: dict[int, MethodType] = dict(commands.INDEX_MAPPING)
_TYPES: dict[MethodType, tuple[str, ...]] = {
    method: tuple(method.amqp_type(name) for name in method.attributes()) for method in _METHODS.values()
}


def id_of(payload: bytes) -> int:
    """The id (class << 16 | method) at the start of a method's payload."""
    method_id: int = METHOD_ID.unpack_from(payload)[0]
    return method_id


def method_of(payload: bytes) -> MethodType:
    """The method of a payload. Raises AmqpError 501 for an unknown one."""
    method = _METHODS.get(id_of(payload))
    if method is None:
        raise undecodable(payload)
    return method


def decode_arguments(method: MethodType, payload: bytes) -> list[Any]:
    """The arguments in order; `payload` begins with the method's id.

    Short strings are str, long strings bytes, tables `tables.Table`. Raises AmqpError 501.
    """
    position = METHOD_ID.size
    arguments: list[Any] = []
    bit = 0
    try:
        for kind in _TYPES[method]:
            if kind == "bit":
                position += bit == 0
                arguments.append(bool(payload[position - 1] >> bit & 1))
                bit += 1
                continue
            bit = 0
            number = _NUMBERS.get(kind)
            if number is not None:
                arguments.extend(number.unpack_from(payload, position))
                position += number.size
                continue
            value, position = _decode_variable(kind, payload, position)
            arguments.append(value)
    except (error, IndexError, MalformedError):
        raise undecodable(payload) from None
    if position != len(payload):
        raise undecodable(payload)
    return arguments


def undecodable(payload: bytes) -> AmqpError:
    """The error for an unknown method or malformed arguments."""
    shown = ",".join(map(str, payload[METHOD_ID.size :]))
    return AmqpError(ReplyCode.FRAME_ERROR, f"cannot decode <<{shown}>>", method=id_of(payload))


def _decode_variable(kind: str, payload: bytes, position: int) -> tuple[str | bytes | Table, int]:
    if kind == "shortstr":
        start = position + 1
        stop = start + payload[position]
    else:
        start = position + 4
        stop = start + _LENGTH.unpack_from(payload, position)[0]
    if stop > len(payload):
        raise MalformedError("a string or table runs past the end of its method")
    if kind == "table":
        return decode_table(payload, start, stop), stop
    if kind == "longstr":
        return payload[start:stop], stop
    try:
        return payload[start:stop].decode(), stop
    except UnicodeDecodeError:
        raise frame_error("Malformed UTF-8 in shortstr") from None


def encode_method(channel: int, method: MethodType, *arguments: Any) -> bytes:
    """A method frame; arguments as `decode_arguments` returns them, short strings also as bytes."""
    parts = [METHOD_ID.pack(method.index)]
    bits = count = 0
    for kind, value in zip(_TYPES[method], arguments, strict=True):
        if kind == "bit":
            bits |= bool(value) << count
            count += 1
            continue
        if count:
            parts.append(bytes((bits,)))
            bits = count = 0
        number = _NUMBERS.get(kind)
        if number is not None:
            parts.append(number.pack(value))
        elif kind == "shortstr":
            parts.append(shortstr(value))
        elif kind == "table":
            parts.append(encode_table(value))
        else:
            raw = value.encode() if isinstance(value, str) else value
            parts.append(_LENGTH.pack(len(raw)) + raw)
    if count:
        parts.append(bytes((bits,)))
    return write_frame(METHOD, channel, b"".join(parts))


def shortstr(value: str | bytes) -> bytes:
    raw = value.encode(errors="surrogateescape") if isinstance(value, str) else value
    return bytes((len(raw),)) + raw


# --- content ----------------------------------------------------------------------------------


def route_of(exchange: str, routing_key: str) -> bytes:
    """Exchange and routing key in the encoding that publish, deliver, return and get-ok share."""
    return shortstr(exchange) + shortstr(routing_key)


def split_route(route: bytes) -> tuple[str, str]:
    cut = 1 + route[0]
    exchange, routing_key = route[1:cut], route[cut + 1 :]
    return exchange.decode(errors="surrogateescape"), routing_key.decode(errors="surrogateescape")


def publish_prefix(channel: int, method: bytes, header: bytes, body_size: int) -> bytes:
    """A publish with its body in one frame, up to the body; `method` and `header` are payloads."""
    frames = write_frame(METHOD, channel, method) + write_frame(HEADER, channel, header)
    return frames + FRAME.pack(BODY, channel, body_size)


def read_content(data: bytes, position: int, channel: int, frame_max: int) -> Content | None:
    """The content at `position` if it is a complete header and one complete body frame.

    None for anything else, valid or not; `read_frame` decides about that.
    """
    start = position + FRAME.size + CONTENT.size
    if len(data) < start:
        return None
    kind, number, size = FRAME.unpack_from(data, position)
    end = position + FRAME.size + size
    body_at = end + 1 + FRAME.size
    if kind != HEADER or number != channel or size < CONTENT.size or len(data) <= body_at:
        return None
    class_id, weight, body_size = CONTENT.unpack_from(data, position + FRAME.size)
    stop = body_at + body_size
    if class_id != BASIC_CLASS or weight or len(data) <= stop or (frame_max and body_size > frame_max):
        return None
    if data[end] != FRAME_END or data[stop] != FRAME_END:
        return None
    if FRAME.unpack_from(data, end + 1) != (BODY, channel, body_size):
        return None
    return Content(data[start:end], data[body_at:stop], body_at, stop + 1)


def content_frames(channel: int, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """A header frame and body frames of at most `frame_max` bytes (0: no limit)."""
    header = write_frame(HEADER, channel, CONTENT.pack(BASIC_CLASS, 0, len(body)) + properties)
    limit = frame_max - FRAME_OVERHEAD if frame_max else len(body)
    if not body:
        return header
    if len(body) <= limit:
        return header + write_frame(BODY, channel, body)
    frames = [header]
    frames += (write_frame(BODY, channel, body[at : at + limit]) for at in range(0, len(body), limit))
    return b"".join(frames)

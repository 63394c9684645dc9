"""A message's properties. They stay in the publisher's encoding and are decoded only if a rule needs it.

Source: AMQP 0-9-1 section 4.2.6.1 (content header) and the properties of the basic class.
"""

from __future__ import annotations

from struct import Struct, error
from typing import NamedTuple

from msctl.broker.protocol.replies import AmqpError, precondition_failed
from msctl.broker.protocol.tables import MalformedError, Table, decode_table, encode_table

CONTENT_TYPE = 15
HEADERS = 13
DELIVERY_MODE = 12
PRIORITY = 11
CORRELATION_ID = 10
REPLY_TO = 9
EXPIRATION = 8
MESSAGE_ID = 7
TIMESTAMP = 6
USER_ID = 4

MAX_EXPIRY_MS = 315_360_000_000
"""Ten years: RabbitMQ's limit for every duration of a queue or message."""

_FLAGS = Struct(">H")
_LENGTH = Struct(">I")
_RESERVED = 0b11
_PERSISTENT = b"\x02"
_SIZES = {DELIVERY_MODE: 1, PRIORITY: 1, TIMESTAMP: 8}
_ORDER = range(15, 1, -1)
# The other properties (content type and encoding, correlation id, message id, timestamp, type, app id,
# cluster id) are relayed unread.
_USED = 1 << HEADERS | 1 << DELIVERY_MODE | 1 << PRIORITY | 1 << REPLY_TO | 1 << EXPIRATION | 1 << USER_ID

Parts = dict[int, bytes]
"""The encoded value of each property that is present, by the number of its flag bit."""


class Properties(NamedTuple):
    """The properties that the broker acts on; `raw` is the encoding of all of them."""

    raw: bytes
    headers: Table | None = None
    priority: int = 0
    reply_to: bytes | None = None
    ttl_ms: int | None = None
    user_id: bytes | None = None
    persistent: bool = False


def read_properties(raw: bytes) -> Properties:
    """Decode the properties that the broker acts on.

    Raises MalformedError for bytes that are no property list, AmqpError 406 for an expiration or a
    delivery mode that RabbitMQ rejects.
    """
    parts = split(raw)
    if not _FLAGS.unpack_from(raw)[0] & _USED:
        return Properties(raw)
    mode = parts.get(DELIVERY_MODE)
    if mode is not None and mode not in (b"\x01", b"\x02"):
        raise precondition_failed(f"invalid message: {{delivery_mode_unknown,{mode[0]}}}")
    priority = parts.get(PRIORITY)
    return Properties(
        raw,
        headers=headers_of(parts),
        priority=priority[0] if priority else 0,
        reply_to=short_text(parts, REPLY_TO),
        ttl_ms=expiration_ms(short_text(parts, EXPIRATION)),
        user_id=short_text(parts, USER_ID),
        persistent=mode == _PERSISTENT,
    )


def split(raw: bytes) -> Parts:
    """Split an encoded property list. Raises MalformedError."""
    if len(raw) < 2:
        raise MalformedError("a content header has no property flags")
    (flags,) = _FLAGS.unpack_from(raw)
    if flags & _RESERVED:
        raise MalformedError("a content header has unknown property flags")
    parts: Parts = {}
    position = 2
    try:
        for bit in _ORDER if flags else ():
            if not flags >> bit & 1:
                continue
            if bit == HEADERS:
                stop = position + 4 + _LENGTH.unpack_from(raw, position)[0]
            else:
                stop = position + (_SIZES.get(bit) or 1 + raw[position])
            parts[bit] = raw[position:stop]
            position = stop
    except (error, IndexError) as exc:
        raise MalformedError("a property runs past the end of its header") from exc
    if position != len(raw):
        raise MalformedError("a content header has trailing bytes")
    return parts


def join(parts: Parts) -> bytes:
    flags = sum(1 << bit for bit in parts)
    return _FLAGS.pack(flags) + b"".join(parts[bit] for bit in _ORDER if bit in parts)


def headers_of(parts: Parts) -> Table | None:
    raw = parts.get(HEADERS)
    return None if raw is None else decode_table(raw, 4, len(raw))


def priority_of(raw: bytes) -> int:
    """The priority property, 0 by default."""
    priority = split(raw).get(PRIORITY)
    return priority[0] if priority else 0


def is_persistent(raw: bytes) -> bool:
    return split(raw).get(DELIVERY_MODE) == _PERSISTENT


def with_headers(parts: Parts, headers: Table) -> Parts:
    return {**parts, HEADERS: encode_table(headers)}


def expiration_ms(text: bytes | None) -> int | None:
    """The expiration property as RabbitMQ reads it: an integer in milliseconds, at most ten years.

    Raises AmqpError 406.
    """
    if text is None:
        return None
    digits = len(text) - len(text.lstrip(b"+-")) if text[:1] in (b"+", b"-") else 0
    digits = min(digits, 1)
    end = digits
    while end < len(text) and text[end : end + 1].isdigit():
        end += 1
    if end == digits:
        raise _bad_expiration(text, "no_integer")
    if end < len(text):
        leftover = text[end:].decode("latin-1")
        raise _bad_expiration(text, f'{{leftover_string,"{leftover}"}}')
    value = int(text)
    if value < 0:
        raise _bad_expiration(text, f"{{value_negative,{value}}}")
    if value > MAX_EXPIRY_MS:
        raise _bad_expiration(text, f"{{value_too_large,{value}}}")
    return value


def _bad_expiration(text: bytes, why: str) -> AmqpError:
    return precondition_failed(f"invalid expiration '{text.decode('latin-1')}': {why}")


def short_text(parts: Parts, bit: int) -> bytes | None:
    """The value of a short string property."""
    raw = parts.get(bit)
    return None if raw is None else raw[1:]

"""Encode publishes from a template, so that method and properties are encoded once. Pure.

Encoding them per message costs more than the rest of a publish, see tests/bench.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass

import pamqp.frame
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from msctl.amqp.methods import BasicPublish

FRAME_OVERHEAD = 8
"""Bytes of a frame around its payload: type, channel, size and end octet."""
_BODY_SIZE_AT = 11
"""The position of the body size in a content header frame: after 7 bytes of frame, class and weight."""
_FRAME_END = b"\xce"


@dataclass(frozen=True, slots=True)
class PublishTemplate:
    """Encodes messages that differ only in body and message id.

    `own_id` is the user's message id for all of them, or None if each gets its own.
    """

    method: bytes
    head: bytes
    middle: bytes
    tail: bytes
    channel: int
    frame_max: int
    own_id: str | None

    @classmethod
    def make(
        cls,
        properties: Basic.Properties,
        *,
        exchange: str,
        routing_key: str,
        mandatory: bool,
        channel: int,
        frame_max: int,
    ) -> PublishTemplate:
        """Raises ValueError for a value too long for its field, or properties too long for a frame."""
        own_id = properties.message_id
        placeholder = own_id or uuid.uuid4().hex
        try:
            properties.message_id = placeholder
            method = pamqp.frame.marshal(
                BasicPublish(exchange=exchange, routing_key=routing_key, mandatory=mandatory), channel
            )
            header = pamqp.frame.marshal(ContentHeader(body_size=0, properties=properties), channel)
        except (struct.error, TypeError) as exc:
            raise ValueError(f"a property cannot be encoded: {exc}") from exc
        finally:
            properties.message_id = own_id
        if len(header) > frame_max:
            raise ValueError(f"headers and properties take {len(header)} bytes, a frame {frame_max}")
        head, rest = header[:_BODY_SIZE_AT], header[_BODY_SIZE_AT + 8 :]
        middle, tail = rest, b""
        if own_id is None:
            middle, _, tail = rest.partition(placeholder.encode())
        return cls(method, head, middle, tail, channel, frame_max, own_id)

    def encode(self, body: bytes, message_id: str) -> bytes:
        """The frames of one message; `message_id` has 32 characters and is ignored with `own_id`."""
        identity = b"" if self.own_id is not None else message_id.encode()
        parts = [self.method, self.head, struct.pack(">Q", len(body)), self.middle, identity, self.tail]
        room = self.frame_max - FRAME_OVERHEAD
        for start in range(0, len(body), room):
            piece = body[start : start + room]
            parts += (struct.pack(">BHI", 3, self.channel, len(piece)), piece, _FRAME_END)
        return b"".join(parts)

"""Decodes an OTLP ExportTraceServiceRequest in binary Protocol Buffers, which most SDKs send.

Reads the needed messages of opentelemetry-proto's trace/v1 and common/v1 by field number (Protocol Buffers,
"Encoding"). Pure and bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from msctl.telemetry.ingest.otlp import (
    IncomingAttribute,
    IncomingEvent,
    IncomingResource,
    IncomingSpan,
    IncomingStatus,
    IncomingValue,
    MalformedError,
    Sender,
    sender_of,
)

MAX_FIELDS = 8192
"""Fields of one message; bounds the time to decode a span."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_DOUBLE = struct.Struct("<d")

WireValue = int | bytes
"""A field's value on the wire: an int for varints and fixed sizes, bytes for length-delimited fields."""


def from_protobuf(body: bytes) -> Iterator[tuple[Sender, IncomingSpan]]:
    """Yield the spans of a binary request, decoded lazily, with the senders they name.

    Raises MalformedError.
    """
    for sender, scope in scopes(body):
        for span in messages(scope, 2):  # ScopeSpans.spans
            yield sender, _span(span)


def scopes(body: bytes) -> Iterator[tuple[Sender, bytes]]:
    """Yield the scopes of a request of any signal with their senders: the messages are alike."""
    for resource in messages(body, 1):  # Export…ServiceRequest.resource_…
        attributes = [
            attribute(data_of(value))
            for described in messages(resource, 1)  # Resource…s.resource
            for number, value in fields(described)
            if number == 1  # Resource.attributes
        ]
        sender = sender_of(IncomingResource(attributes))
        for scope in messages(resource, 2):  # Resource….scope_…
            yield sender, scope


def _span(message: bytes) -> IncomingSpan:
    span = IncomingSpan()
    attributes: list[IncomingAttribute] = []
    events: list[IncomingEvent] = []
    for number, value in fields(message):
        if number == 1:
            span.trace_id = data_of(value).hex()
        elif number == 2:
            span.span_id = data_of(value).hex()
        elif number == 4:
            span.parent_span_id = data_of(value).hex()
        elif number == 5:
            span.name = text_in(value)
        elif number == 6:
            span.kind = number_of(value)
        elif number == 7:
            span.start_time_unix_nano = number_of(value)
        elif number == 8:
            span.end_time_unix_nano = number_of(value)
        elif number == 9:
            attributes.append(attribute(data_of(value)))
        elif number == 11:
            events.append(_event(data_of(value)))
        elif number == 15:
            span.status = _status(data_of(value))
    span.attributes, span.events = attributes, events
    return span


def _event(message: bytes) -> IncomingEvent:
    event = IncomingEvent()
    attributes: list[IncomingAttribute] = []
    for number, value in fields(message):
        if number == 1:
            event.time_unix_nano = number_of(value)
        elif number == 2:
            event.name = text_in(value)
        elif number == 3:
            attributes.append(attribute(data_of(value)))
    event.attributes = attributes
    return event


def _status(message: bytes) -> IncomingStatus:
    status = IncomingStatus()
    for number, value in fields(message):
        if number == 2:
            status.message = text_in(value)
        elif number == 3:
            status.code = number_of(value)
    return status


def attribute(message: bytes) -> IncomingAttribute:
    attribute = IncomingAttribute()
    for number, value in fields(message):
        if number == 1:
            attribute.key = text_in(value)
        elif number == 2:
            attribute.value = value_of(data_of(value))
    return attribute


def value_of(message: bytes) -> IncomingValue:
    found = IncomingValue()
    for number, value in fields(message):
        if number == 1:
            found = IncomingValue(string_value=text_in(value))
        elif number == 2:
            found = IncomingValue(bool_value=number_of(value) != 0)
        elif number == 3:
            found = IncomingValue(int_value=signed(number_of(value)))
        elif number == 4:
            double = _DOUBLE.unpack(number_of(value).to_bytes(8, "little"))[0]
            found = IncomingValue(double_value=double)
    return found


def fields(message: bytes) -> Iterator[tuple[int, WireValue]]:
    """Yield the number and value of each field. Raises MalformedError."""
    at, end, count = 0, len(message), 0
    while at < end:
        count += 1
        if count > MAX_FIELDS:
            raise MalformedError(f"a message has more than {MAX_FIELDS} fields")
        # Most keys, sizes and numbers are one byte long: no call for those.
        key = message[at]
        at += 1
        if key > 0x7F:
            key, at = _varint(message, at - 1)
        kind = key & 7
        value: WireValue
        if kind == _BYTES:
            size = message[at] if at < end else 0x80
            at += 1
            if size > 0x7F:
                size, at = _varint(message, at - 1)
            value = message[at : at + size]
            at += size
            if at > end:
                raise MalformedError("a field is longer than its message")
        elif kind == _VARINT:
            value = message[at] if at < end else 0x80
            at += 1
            if value > 0x7F:
                value, at = _varint(message, at - 1)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
            value = int.from_bytes(_taken(message, at, size), "little")
            at += size
        else:
            raise MalformedError(f"a field has the unknown wire type {kind}")
        yield key >> 3, value


def messages(message: bytes, field_number: int) -> Iterator[bytes]:
    return (data_of(value) for number, value in fields(message) if number == field_number)


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Decode a varint (seven bits per byte, lowest first); returns it and the position after it."""
    found = shift = 0
    for byte in message[at : at + _LONGEST_VARINT]:
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
    raise MalformedError("a varint does not end")


def _taken(message: bytes, at: int, size: int) -> bytes:
    if size > len(message) - at:
        raise MalformedError("a field is longer than its message")
    return message[at : at + size]


def data_of(value: WireValue) -> bytes:
    if not isinstance(value, bytes):
        raise MalformedError("a field has a number instead of bytes")
    return value


def number_of(value: WireValue) -> int:
    if not isinstance(value, int):
        raise MalformedError("a field has bytes instead of a number")
    return value


def signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def text_in(value: WireValue) -> str:
    return data_of(value).decode(errors="replace")

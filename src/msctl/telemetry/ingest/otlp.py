"""Parses an OTLP ExportTraceServiceRequest in JSON and validates its spans.

Pure and bounded: every span is either valid and limited in size, or the request is malformed. Events, links
and resources are ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from msctl.model.traces import SpanKind
from msctl.telemetry.tracing.tracer import LONGEST_PATH, EndedSpan

MAX_SPANS = 4096
"""Spans in one request; SDKs send 512 by default."""
MAX_ATTRIBUTES = 32
LONGEST_KEY = 100
LONGEST_VALUE = 256
MAX_ATTRIBUTES_SIZE = 2048
"""Characters of all attributes of a span together."""

_LATEST = 2**63
"""Nanoseconds since the epoch: the year 2262."""
_KINDS = {2: SpanKind.SERVER, 3: SpanKind.CLIENT, 4: SpanKind.PRODUCER, 5: SpanKind.CONSUMER}
_ERROR = 2
_STATUSES = ("http.response.status_code", "http.status_code")
"""The second is the name before the HTTP semantic conventions became stable."""
_TRACE_ID = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)
_SPAN_ID = re.compile(r"[0-9a-fA-F]{16}", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)


class MalformedSpansError(Exception):
    """The request or one of its spans is malformed; the text says why."""


class Sender(NamedTuple):
    """The service and the instance that sent spans."""

    service: str
    instance: str


class IncomingValue(msgspec.Struct, rename="camel"):
    """An attribute's value: one of these is set. Arrays and maps are ignored."""

    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None


class IncomingAttribute(msgspec.Struct):
    key: str = ""
    value: IncomingValue | None = None


class IncomingStatus(msgspec.Struct):
    code: int = 0


class IncomingSpan(msgspec.Struct, rename="camel"):
    """A span as received: ids in hex, times in nanoseconds since the epoch."""

    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str | None = None
    name: str = ""
    kind: int = 0
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: Sequence[IncomingAttribute] | None = None
    status: IncomingStatus | None = None


class _Scope(msgspec.Struct, rename="camel"):
    spans: list[IncomingSpan] | None = None


class _Resource(msgspec.Struct, rename="camel"):
    scope_spans: list[_Scope] | None = None


class _Request(msgspec.Struct, rename="camel"):
    resource_spans: list[_Resource] | None = None


_decoder = msgspec.json.Decoder(_Request)


def from_json(body: bytes) -> Iterator[IncomingSpan]:
    """Yield the spans of a JSON request. Raises MalformedSpansError."""
    try:
        request = _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedSpansError(f"not an ExportTraceServiceRequest in JSON: {error}") from error
    for resource in request.resource_spans or ():
        for scope in resource.scope_spans or ():
            yield from scope.spans or ()


def ended_span(span: IncomingSpan, sender: Sender) -> EndedSpan:
    """Validate and convert a received span. Raises MalformedSpansError for invalid ids or times.

    The span belongs to `sender` whatever its resource says: a program cannot send spans of another service.
    """
    span_id = _id(span.span_id, _SPAN_ID, "spanId")
    parent = span.parent_span_id or ""
    # Some SDKs send zeros for "no parent".
    parent_id = _id(parent, _SPAN_ID, "parentSpanId") if parent.strip("0") else None
    start, end = _nanoseconds(span.start_time_unix_nano), _nanoseconds(span.end_time_unix_nano)
    kind = _KINDS.get(span.kind, SpanKind.INTERNAL)
    attributes = _attributes(span.attributes or ())
    status = None
    for key in _STATUSES:
        if type(attributes.get(key)) is int:
            status = int(attributes.pop(key))
    instance = ""
    if kind is not SpanKind.CLIENT:
        attributes.pop("service.instance.id", None)
        instance = sender.instance
    return EndedSpan(
        _id(span.trace_id, _TRACE_ID, "traceId"),
        span_id,
        None if parent_id == span_id else parent_id,
        _text(span.name, LONGEST_PATH) or kind.value,
        sender.service,
        kind,
        start / 1e9,
        max(0, end - start) / 1e9,
        span.status is not None and span.status.code == _ERROR,
        status,
        instance,
        attributes,
    )


def _id(text: str, form: re.Pattern[str], field: str) -> str:
    if form.fullmatch(text) is None or not text.strip("0"):
        raise MalformedSpansError(f"{field} {text[:40]!r} is not a valid id")
    return text.lower()


def _nanoseconds(value: int | str) -> int:
    found = _integer(value)
    if not 0 <= found < _LATEST:
        raise MalformedSpansError(f"{found} is not a valid time in nanoseconds since the epoch")
    return found


def _integer(value: int | str) -> int:
    """OTLP/JSON encodes 64-bit integers as strings; numbers are accepted too."""
    if isinstance(value, str):
        if _INTEGER.fullmatch(value) is None:
            raise MalformedSpansError(f"{value[:40]!r} is not a 64-bit integer")
        value = int(value)
    return value


def _attributes(received: Sequence[IncomingAttribute]) -> dict[str, str | int | float | bool]:
    """The attributes within the limits; long values are cut."""
    found: dict[str, str | int | float | bool] = {}
    room = MAX_ATTRIBUTES_SIZE
    for attribute in received:
        value = None if attribute.value is None else _scalar(attribute.value)
        key = _text(attribute.key, LONGEST_KEY)
        room -= len(key) + (len(value) if isinstance(value, str) else 8)
        if len(found) >= MAX_ATTRIBUTES or room < 0:
            break
        if key and value is not None:
            found[key] = value
    return found


def _scalar(value: IncomingValue) -> str | int | float | bool | None:
    if value.string_value is not None:
        return _text(value.string_value, LONGEST_VALUE)
    if value.bool_value is not None:
        return value.bool_value
    if value.int_value is not None:
        number = _integer(value.int_value)
        return number if -(2**63) <= number < 2**63 else None
    double = value.double_value
    # NaN and infinities arrive as strings; JSON cannot represent them as numbers.
    return double if isinstance(double, float) and math.isfinite(double) else None


def _text(text: str, longest: int) -> str:
    """Cut the text and replace control characters (terminal escapes, line breaks)."""
    text = text[:longest]
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    )

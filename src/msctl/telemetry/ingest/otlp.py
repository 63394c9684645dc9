"""Spans as other programs send them: an ExportTraceServiceRequest of OTLP in its JSON form, and what
becomes of its spans here.

Pure, and bounded: whatever comes in is either a span that can be kept and shown, or malformed. Only
what is kept of a span is read: events, links and resources are passed over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from msctl.model.snapshots import SpanKind
from msctl.telemetry.tracing.tracer import LONGEST_PATH, Ended

MAX_SPANS = 4096
"""Spans of one request; SDKs send 512 by default."""
MAX_ATTRIBUTES = 32
LONGEST_KEY = 100
LONGEST_VALUE = 256
ATTRIBUTES_ROOM = 2048
"""Characters of all attributes of a span."""

_LATEST = 2**63
"""Nanoseconds since the epoch: the year 2262."""
_KINDS = {2: SpanKind.SERVER, 3: SpanKind.CLIENT, 4: SpanKind.PRODUCER, 5: SpanKind.CONSUMER}
_ERROR = 2
_STATUSES = ("http.response.status_code", "http.status_code")
"""The second is that of SDKs from before the semantic conventions were stable."""
_TRACE_ID = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)
_SPAN_ID = re.compile(r"[0-9a-fA-F]{16}", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)


class MalformedSpansError(Exception):
    """A request that is none, or has a span that cannot be one; its text says why."""


class Origin(NamedTuple):
    """The service and the instance that spans come from."""

    service: str
    instance: str


class Value(msgspec.Struct, rename="camel"):
    """One of these is set; a value of a kind that is not here is not kept."""

    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None


class Attribute(msgspec.Struct):
    key: str = ""
    value: Value | None = None


class Status(msgspec.Struct):
    code: int = 0


class Incoming(msgspec.Struct, rename="camel"):
    """A span as it comes in: ids in hex, times in nanoseconds since the epoch."""

    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str | None = None
    name: str = ""
    kind: int = 0
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: Sequence[Attribute] | None = None
    status: Status | None = None


class _Scope(msgspec.Struct, rename="camel"):
    spans: list[Incoming] | None = None


class _Resource(msgspec.Struct, rename="camel"):
    scope_spans: list[_Scope] | None = None


class _Request(msgspec.Struct, rename="camel"):
    resource_spans: list[_Resource] | None = None


_decoder = msgspec.json.Decoder(_Request)


def from_json(body: bytes) -> Iterator[Incoming]:
    """The spans of a request in OTLP's JSON form. Raises MalformedSpansError."""
    try:
        request = _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedSpansError(f"not an ExportTraceServiceRequest in JSON: {error}") from error
    for resource in request.resource_spans or ():
        for scope in resource.scope_spans or ():
            yield from scope.spans or ()


def ended(span: Incoming, origin: Origin) -> Ended:
    """The span as it is kept. Raises MalformedSpansError for one without valid ids and times.

    It is its sender's, whatever its resource says: a program speaks for itself only.
    """
    span_id = _id(span.span_id, _SPAN_ID, "spanId")
    parent = span.parent_span_id or ""
    # Some send zeros for none.
    above = _id(parent, _SPAN_ID, "parentSpanId") if parent.strip("0") else None
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
        instance = origin.instance
    return Ended(
        _id(span.trace_id, _TRACE_ID, "traceId"),
        span_id,
        None if above == span_id else above,
        _text(span.name, LONGEST_PATH) or kind.value,
        origin.service,
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
        raise MalformedSpansError(f"{field} {text[:40]!r} is not an id")
    return text.lower()


def _nanoseconds(value: int | str) -> int:
    found = _integer(value)
    if not 0 <= found < _LATEST:
        raise MalformedSpansError(f"{found} is not a time in nanoseconds since 1970")
    return found


def _integer(value: int | str) -> int:
    """OTLP writes 64-bit numbers as strings, and takes numbers too."""
    if isinstance(value, str):
        if _INTEGER.fullmatch(value) is None:
            raise MalformedSpansError(f"{value[:40]!r} is not a 64-bit number")
        value = int(value)
    return value


def _attributes(given: Sequence[Attribute]) -> dict[str, str | int | float | bool]:
    """Those that there is room for; what is too long is cut."""
    found: dict[str, str | int | float | bool] = {}
    room = ATTRIBUTES_ROOM
    for attribute in given:
        value = None if attribute.value is None else _scalar(attribute.value)
        key = _text(attribute.key, LONGEST_KEY)
        room -= len(key) + (len(value) if isinstance(value, str) else 8)
        if len(found) >= MAX_ATTRIBUTES or room < 0:
            break
        if key and value is not None:
            found[key] = value
    return found


def _scalar(value: Value) -> str | int | float | bool | None:
    if value.string_value is not None:
        return _text(value.string_value, LONGEST_VALUE)
    if value.bool_value is not None:
        return value.bool_value
    if value.int_value is not None:
        number = _integer(value.int_value)
        return number if -(2**63) <= number < 2**63 else None
    double = value.double_value
    # NaN and the infinities come as strings, and have no form in which they could be shown.
    return double if isinstance(double, float) and math.isfinite(double) else None


def _text(text: str, longest: int) -> str:
    """On one line, without what a terminal would obey."""
    text = text[:longest]
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    )

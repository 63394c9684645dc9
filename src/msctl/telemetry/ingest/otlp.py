"""Parses an OTLP ExportTraceServiceRequest in JSON and validates its spans.

Pure and bounded: every span is either valid and limited in size, or the request is malformed. Links are
ignored. A request is decoded in two steps: first to its spans alone, which takes a tenth of the time, then
each span when it is asked for, so that the caller can let others run in between.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from msctl.model.traces import SpanEvent, SpanKind
from msctl.telemetry.tracing.span import LONGEST_PATH, EndedSpan

MAX_SPANS = 4096
"""Spans in one request; SDKs send 512 by default."""
MAX_ITEM = 1024 * 1024
"""Bytes of one span, log record or data point."""
MAX_ATTRIBUTES = 32
LONGEST_KEY = 100
LONGEST_VALUE = 256
MAX_ATTRIBUTES_SIZE = 2048
"""Characters of all attributes of a span together, stack traces apart."""
MAX_EVENTS = 16
"""Events kept of a span: the first ones, and every exception before any other."""
LONGEST_STACK = 16 * 1024
"""Characters kept of a stack trace: its end, which names what was raised."""
STACK_TRACE = "exception.stacktrace"

_REQUEST = "ExportTraceServiceRequest"
_LATEST = 2**63
"""Nanoseconds since the epoch: the year 2262."""
_KINDS = {2: SpanKind.SERVER, 3: SpanKind.CLIENT, 4: SpanKind.PRODUCER, 5: SpanKind.CONSUMER}
_ERROR = 2
_STATUSES = ("http.response.status_code", "http.status_code")
"""The second is the name before the HTTP semantic conventions became stable."""
TRACE_ID = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)
SPAN_ID = re.compile(r"[0-9a-fA-F]{16}", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)


T = TypeVar("T")


class MalformedError(Exception):
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
    message: str = ""


class IncomingEvent(msgspec.Struct, rename="camel"):
    time_unix_nano: int | str = 0
    name: str = ""
    attributes: Sequence[IncomingAttribute] | None = None


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
    events: Sequence[IncomingEvent] | None = None
    status: IncomingStatus | None = None


class _Scope(msgspec.Struct, rename="camel"):
    spans: list[msgspec.Raw] | None = None


class IncomingResource(msgspec.Struct):
    """Who sent: the program's own description of itself."""

    attributes: Sequence[IncomingAttribute] | None = None


class _Resource(msgspec.Struct, rename="camel"):
    resource: IncomingResource | None = None
    scope_spans: list[_Scope] | None = None


class _Request(msgspec.Struct, rename="camel"):
    resource_spans: list[_Resource] | None = None


_decoder = msgspec.json.Decoder(_Request)
_span_decoder = msgspec.json.Decoder(IncomingSpan)


def from_json(body: bytes) -> Iterator[tuple[Sender, IncomingSpan]]:
    """Yield the spans of a JSON request, with the senders they name. Raises MalformedError."""
    for resource in decoded(_decoder, body, _REQUEST).resource_spans or ():
        sender = sender_of(resource.resource)
        for scope in resource.scope_spans or ():
            for span in scope.spans or ():
                yield sender, decoded_item(_span_decoder, span, _REQUEST)


def decoded_item(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw, what: str) -> T:
    """Decode one item of a request. Raises MalformedError."""
    if memoryview(raw).nbytes > MAX_ITEM:
        raise MalformedError(f"one item has more than {MAX_ITEM} bytes")
    return decoded(decoder, raw, what)


def decoded(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, what: str) -> T:
    """Decode JSON. Raises MalformedError."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedError(f"not an {what} in JSON: {error}") from error


def sender_of(resource: IncomingResource | None) -> Sender:
    """The sender that a resource names, as OpenTelemetry's conventions have it."""
    found = {} if resource is None else attributes_of(resource.attributes or ())
    service = str(found.get("service.name", "")) or "unknown_service"
    return Sender(service, str(found.get("service.instance.id", "")) or service)


def ended_span(span: IncomingSpan, sender: Sender) -> EndedSpan:
    """Validate and convert a received span. Raises MalformedError for invalid ids or times.

    The span belongs to `sender` whatever its resource says: a program cannot send spans of another service.
    """
    span_id = id_of(span.span_id, SPAN_ID, "spanId")
    parent = span.parent_span_id or ""
    # Some SDKs send zeros for "no parent".
    parent_id = id_of(parent, SPAN_ID, "parentSpanId") if parent.strip("0") else None
    start, end = nanoseconds(span.start_time_unix_nano), nanoseconds(span.end_time_unix_nano)
    kind = _KINDS.get(span.kind, SpanKind.INTERNAL)
    attributes = attributes_of(span.attributes or ())
    status = None
    for key in _STATUSES:
        if type(attributes.get(key)) is int:
            status = int(attributes.pop(key))
    instance = ""
    if kind is not SpanKind.CLIENT:
        attributes.pop("service.instance.id", None)
        instance = sender.instance
    return EndedSpan(
        id_of(span.trace_id, TRACE_ID, "traceId"),
        span_id,
        None if parent_id == span_id else parent_id,
        text_of(span.name, LONGEST_PATH) or kind.value,
        sender.service,
        kind,
        start / 1e9,
        max(0, end - start) / 1e9,
        span.status is not None and span.status.code == _ERROR,
        status,
        instance,
        attributes,
        _events(span.events or ()),
        "" if span.status is None else text_of(span.status.message, LONGEST_VALUE),
    )


def _events(received: Sequence[IncomingEvent]) -> tuple[SpanEvent, ...]:
    if len(received) > MAX_EVENTS:
        exceptions = [event for event in received if event.name == "exception"]
        others = [event for event in received if event.name != "exception"]
        received = [*exceptions, *others][:MAX_EVENTS]
    return tuple(
        SpanEvent(
            text_of(event.name, LONGEST_KEY),
            nanoseconds(event.time_unix_nano) / 1e9,
            attributes_of(event.attributes or ()),
        )
        for event in received
    )


def id_of(text: str, form: re.Pattern[str], field: str) -> str:
    if form.fullmatch(text) is None or not text.strip("0"):
        raise MalformedError(f"{field} {text[:40]!r} is not a valid id")
    return text.lower()


def nanoseconds(value: int | str) -> int:
    found = integer_of(value)
    if not 0 <= found < _LATEST:
        raise MalformedError(f"{found} is not a valid time in nanoseconds since the epoch")
    return found


def integer_of(value: int | str) -> int:
    """OTLP/JSON encodes 64-bit integers as strings; numbers are accepted too."""
    if isinstance(value, str):
        if _INTEGER.fullmatch(value) is None:
            raise MalformedError(f"{value[:40]!r} is not a 64-bit integer")
        value = int(value)
    return value


def attributes_of(received: Sequence[IncomingAttribute]) -> dict[str, str | int | float | bool]:
    """The attributes within the limits; long values are cut."""
    found: dict[str, str | int | float | bool] = {}
    room = MAX_ATTRIBUTES_SIZE
    for attribute in received:
        if attribute.key == STACK_TRACE:
            stack = "" if attribute.value is None else attribute.value.string_value or ""
            found[STACK_TRACE] = stack_of(stack)
            continue
        value = None if attribute.value is None else _scalar(attribute.value)
        key = text_of(attribute.key, LONGEST_KEY)
        room -= len(key) + (len(value) if isinstance(value, str) else 8)
        if len(found) >= MAX_ATTRIBUTES or room < 0:
            break
        if key and value is not None:
            found[key] = value
    return found


def _scalar(value: IncomingValue) -> str | int | float | bool | None:
    if value.string_value is not None:
        return text_of(value.string_value, LONGEST_VALUE)
    if value.bool_value is not None:
        return value.bool_value
    if value.int_value is not None:
        number = integer_of(value.int_value)
        return number if -(2**63) <= number < 2**63 else None
    double = value.double_value
    # NaN and infinities arrive as strings; JSON cannot represent them as numbers.
    return double if isinstance(double, float) and math.isfinite(double) else None


def stack_of(text: str) -> str:
    """The end of a stack trace, with its line breaks."""
    return "\n".join(text_of(line, LONGEST_STACK) for line in text[-LONGEST_STACK:].splitlines())


def text_of(text: str, longest: int) -> str:
    """Cut the text and replace control characters (terminal escapes, line breaks)."""
    text = text[:longest]
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    )

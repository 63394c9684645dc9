"""Parses an OTLP ExportLogsServiceRequest, in JSON or binary Protocol Buffers, and validates its records.

Pure and bounded like the spans of otlp.py, whose attribute rules it shares. Scopes are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from msctl.telemetry.ingest import protobuf
from msctl.telemetry.ingest.otlp import (
    STACK_TRACE,
    TRACE_ID,
    IncomingAttribute,
    IncomingResource,
    IncomingValue,
    MalformedError,
    Sender,
    attributes_of,
    decoded,
    decoded_item,
    sender_of,
    text_of,
)
from msctl.telemetry.logs.parsing import LEVELS

MAX_RECORDS = 4096
"""Records in one request; SDKs send 512 by default."""
_REQUEST = "ExportLogsServiceRequest"
LONGEST_BODY = 16 * 1024
_SEVERITIES = ((4, "debug"), (8, "debug"), (12, "info"), (16, "warning"), (20, "error"))
"""The highest SeverityNumber of each level (OpenTelemetry's log data model)."""


class IncomingRecord(msgspec.Struct, rename="camel"):
    """A log record as received."""

    severity_number: int = 0
    severity_text: str = ""
    body: IncomingValue | None = None
    attributes: Sequence[IncomingAttribute] | None = None
    trace_id: str | None = None
    event_name: str = ""


class LogRecord(NamedTuple):
    """A valid record: its text may have several lines; `trace` is None outside of a trace."""

    level: str
    text: str
    trace: str | None
    fields: dict[str, str | int | float | bool]


class _Scope(msgspec.Struct, rename="camel"):
    log_records: list[msgspec.Raw] | None = None


class _Resource(msgspec.Struct, rename="camel"):
    resource: IncomingResource | None = None
    scope_logs: list[_Scope] | None = None


class _Request(msgspec.Struct, rename="camel"):
    resource_logs: list[_Resource] | None = None


_decoder = msgspec.json.Decoder(_Request)
_record_decoder = msgspec.json.Decoder(IncomingRecord)


def from_json(body: bytes) -> Iterator[tuple[Sender, IncomingRecord]]:
    """Yield the records of a JSON request, with their senders. Raises MalformedError."""
    for resource in decoded(_decoder, body, _REQUEST).resource_logs or ():
        sender = sender_of(resource.resource)
        for scope in resource.scope_logs or ():
            for record in scope.log_records or ():
                yield sender, decoded_item(_record_decoder, record, _REQUEST)


def from_protobuf(body: bytes) -> Iterator[tuple[Sender, IncomingRecord]]:
    """Yield the records of a binary request, decoded lazily. Raises MalformedError."""
    for sender, scope in protobuf.scopes(body):
        for record in protobuf.messages(scope, 2):  # ScopeLogs.log_records
            yield sender, _record(record)


def _record(message: bytes) -> IncomingRecord:
    record = IncomingRecord()
    attributes: list[IncomingAttribute] = []
    for number, value in protobuf.fields(message):
        if number == 2:
            record.severity_number = protobuf.number_of(value)
        elif number == 3:
            record.severity_text = protobuf.text_in(value)
        elif number == 5:
            record.body = protobuf.value_of(protobuf.data_of(value))
        elif number == 6:
            attributes.append(protobuf.attribute(protobuf.data_of(value)))
        elif number == 9:
            record.trace_id = protobuf.data_of(value).hex()
        elif number == 12:
            record.event_name = protobuf.text_in(value)
    record.attributes = attributes
    return record


def log_record(record: IncomingRecord) -> LogRecord:
    """Validate and convert a received record. Raises MalformedError for an invalid trace id."""
    fields = attributes_of(record.attributes or ())
    text = _body(record.body) or record.event_name
    kind, message = fields.pop("exception.type", None), fields.pop("exception.message", None)
    stack = fields.pop(STACK_TRACE, None)
    if stack:
        text = f"{text}\n{stack}"
    elif kind or message:
        text = f"{text}\n{': '.join(str(part) for part in (kind, message) if part)}"
    trace = record.trace_id or ""
    if not trace.strip("0"):
        trace = ""
    elif TRACE_ID.fullmatch(trace) is None:
        raise MalformedError(f"traceId {trace[:40]!r} is not a valid id")
    return LogRecord(_level(record), text, trace.lower() or None, fields)


def _level(record: IncomingRecord) -> str:
    if record.severity_number > 0:
        return next((name for top, name in _SEVERITIES if record.severity_number <= top), "critical")
    return LEVELS.get(record.severity_text.lower(), "info")


def _body(value: IncomingValue | None) -> str:
    if value is None:
        return ""
    if value.string_value is not None:
        lines = value.string_value[:LONGEST_BODY].splitlines()
        return "\n".join(text_of(line, LONGEST_BODY) for line in lines)
    for other in (value.bool_value, value.int_value, value.double_value):
        if other is not None:
            return str(other)
    return ""

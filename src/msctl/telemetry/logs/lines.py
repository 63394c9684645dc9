"""Formats a log line as one JSON document."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from msctl.model.events import LogLine
from msctl.telemetry.logs.parsing import parse_record

_encoder = msgspec.json.Encoder()


def as_json(line: LogLine) -> str:
    """Encode time (RFC 3339, UTC, microseconds), level, service, message and the optional parts."""
    moment = datetime.fromtimestamp(line.time, UTC).isoformat(timespec="microseconds")
    document: dict[str, object] = {
        "time": moment.replace("+00:00", "Z"),
        "level": line.level,
        "service": line.service,
    }
    if line.instance:
        document["instance"] = line.instance
    if line.trace:
        document["trace_id"] = line.trace
    document["message"] = line.text
    if line.fields:
        document["fields"] = line.fields
    return _encoder.encode(document).decode()


def as_record(line: LogLine) -> str:
    """Write a line of an isolated service so that the stack, which reads its output, finds what it says.

    What was printed stays as it is where that says the same: its lines are joined to tracebacks there.
    """
    if not line.text or (line.stream and not line.fields and _level(line.text) == line.level):
        return line.text
    document: dict[str, object] = {**line.fields, "level": line.level}
    if line.trace:
        document["trace_id"] = line.trace
    document["message"] = line.text
    return _encoder.encode(document).decode()


def _level(text: str) -> str:
    return parse_record(text).level or "info"

"""Formats a log line as one JSON document."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from msctl.model.events import LogLine

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

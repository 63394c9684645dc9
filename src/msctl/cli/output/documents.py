"""Results as versioned JSON documents on standard output."""

from __future__ import annotations

import sys

SCHEMA = 1


def write_document(kind: str, value: object) -> None:
    """One JSON document on standard output: `{"schema": 1, "kind": …, "data": …}`."""
    import msgspec

    document = msgspec.json.encode({"schema": SCHEMA, "kind": kind, "data": value})
    sys.stdout.write(msgspec.json.format(document, indent=2).decode() + "\n")


def write_record(kind: str, value: object) -> None:
    """One JSON document on one line of standard output, flushed: for streams."""
    import msgspec

    document = msgspec.json.encode({"schema": SCHEMA, "kind": kind, "data": value})
    sys.stdout.write(document.decode() + "\n")
    sys.stdout.flush()

"""W3C Trace Context at a gateway: continue the caller's trace with the gateway's own span.

The span is that of the observer; without an observer, ids are random. Pure otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from msctl.telemetry.trace_context import current_trace, new_id

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^\s]*)?")
_KEY = rb"[a-z0-9][a-z0-9_\-*/@]{0,255}"
_VALUE = rb"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile(rb"%b=%b" % (_KEY, _VALUE))
_MOST_MEMBERS = 32


class Trace(NamedTuple):
    """A trace to continue: its id and flags, as in traceparent."""

    trace_id: str
    flags: str


def continued(traceparents: Sequence[bytes]) -> Trace | None:
    """Return the caller's trace; None if traceparent is missing, repeated or invalid.

    In that case a new trace starts and tracestate must be dropped (W3C Trace Context §4.3).
    """
    match = _TRACEPARENT.fullmatch(traceparents[0]) if len(traceparents) == 1 else None
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    if (
        version == b"ff"
        or (version == b"00" and rest)
        or not trace_id.strip(b"0")
        or not parent_id.strip(b"0")
    ):
        return None
    return Trace(trace_id.decode(), flags.decode())


def is_tracestate(values: Sequence[bytes]) -> bool:
    """Return whether the lines of tracestate are valid together (W3C Trace Context Level 2, §3.3.1)."""
    members = [member.strip(b" \t") for member in b",".join(values).split(b",")]
    members = [member for member in members if member]
    return len(members) <= _MOST_MEMBERS and all(map(_MEMBER.fullmatch, members))


def traceparent(trace: Trace | None) -> str:
    """Return the value of traceparent with the gateway's own span as parent id.

    Without `trace` a new trace starts, marked as sampled.
    """
    ours = current_trace.get()
    if ours is not None:
        return ours.traceparent
    if trace is not None:
        return f"00-{trace.trace_id}-{new_id()}-{trace.flags}"
    return f"00-{new_id()}{new_id()}-{new_id()}-01"


def trace_id(value: str) -> str:
    """Return the trace id of a valid traceparent."""
    return value[3:35]


def request_id() -> str:
    """Return an id for a request without a trace."""
    return new_id() + new_id()

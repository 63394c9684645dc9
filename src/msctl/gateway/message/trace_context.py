"""W3C Trace Context at a gateway: continue the caller's trace with the gateway's own span.

The span is that of the observer; without an observer, ids are random. Pure otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from msctl.telemetry.trace_context import current_trace, new_id

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^\s]*)?")


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

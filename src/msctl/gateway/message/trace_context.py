"""W3C Trace Context at a gateway: keep the caller's trace, put our own span in its line.

The span is the one that whoever observes us has begun for this request; without an observer, ids
are random. Pure but for that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from msctl.telemetry.trace_context import current_trace, new_id

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^\s]*)?")


class Trace(NamedTuple):
    """A trace to go on with: its id and its flags, as they stand in traceparent."""

    trace_id: str
    flags: str


def continued(traceparents: Sequence[bytes]) -> Trace | None:
    """The caller's trace, None where it sent no traceparent, more than one, or an invalid one.

    Without one a new trace begins, and tracestate, which belonged to the old one, must be dropped
    (W3C Trace Context §4.3).
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
    """The field's value, with a new parent id: that of the gateway's own span.

    Without a trace to go on with it begins one, marked as sampled: the tracers behind us record it
    unless they decide otherwise.
    """
    ours = current_trace.get()
    if ours is not None:
        return ours.traceparent
    if trace is not None:
        return f"00-{trace.trace_id}-{new_id()}-{trace.flags}"
    return f"00-{new_id()}{new_id()}-{new_id()}-01"


def trace_id(value: str) -> str:
    """The trace's id within a traceparent of our own."""
    return value[3:35]


def request_id() -> str:
    """An id for a request that has no trace."""
    return new_id() + new_id()

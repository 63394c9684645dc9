"""W3C Trace Context at a gateway: keep the caller's trace, put our own span in its line.

The span is the one that whoever observes us has begun for this request; without an observer, ids
are random. Pure but for that.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from msctl.gateway.headers import Field, Fields
from msctl.telemetry.context import current_trace

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^\s]*)?")
_SAMPLED = b"01"

Random = Callable[[int], int]


def continue_trace(fields: Sequence[Field], random_bits: Random = random.getrandbits) -> Fields:
    """`fields` with our own traceparent: the same trace id, a new parent id.

    Without a valid traceparent a new trace begins and tracestate, which belonged to the old one, is
    dropped (W3C Trace Context §4.3). A new trace is marked as sampled, so that the tracers behind us
    record it unless they decide otherwise.
    """
    given = [value for name, value in fields if name.lower() == b"traceparent"]
    kept = _valid(given[0]) if len(given) == 1 else None
    drop = {b"traceparent"} if kept else {b"traceparent", b"tracestate"}
    out = [field for field in fields if field[0].lower() not in drop] if given or not kept else list(fields)
    context = current_trace.get()
    if context is not None:
        out.append((b"traceparent", context.traceparent.encode()))
        return out
    trace_id, flags = kept or (_identifier(random_bits, 128), _SAMPLED)
    out.append((b"traceparent", b"-".join((b"00", trace_id, _identifier(random_bits, 64), flags))))
    return out


def _valid(value: bytes) -> tuple[bytes, bytes] | None:
    match = _TRACEPARENT.fullmatch(value)
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
    return trace_id, flags


def _identifier(random_bits: Random, bits: int) -> bytes:
    number = 0
    while not number:
        number = random_bits(bits)
    return b"%0*x" % (bits // 4, number)

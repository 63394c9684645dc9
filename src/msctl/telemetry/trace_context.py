"""W3C Trace Context, and the context variable that carries it through the tasks of a request or message.

Pure except for the random bits of new ids.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Sequence
from contextvars import ContextVar
from time import time

from msctl.model.traces import SpanEvent

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-\S*)?", re.ASCII)
_MAX = 512
"""Characters of the longest accepted traceparent; version 00 has 55, later versions may have more."""
_LONGEST_MESSAGE = 1000
_LONGEST_STACK = 16 * 1024


SAMPLED = "01"
"""The flags of a trace that starts here."""


class TraceContext:
    """The span that is active now. `exception` is set only where one was raised (`record_exception`)."""

    __slots__ = ("exception", "flags", "parent_id", "span_id", "trace_id")

    exception: SpanEvent

    def __init__(self, trace_id: str, parent_id: str | None, flags: str) -> None:
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.flags = flags
        self.span_id = new_id()

    @property
    def traceparent(self) -> str:
        """The header for requests and messages that this span sends."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def callee(self) -> TraceContext:
        """A new child span in this process."""
        return TraceContext(self.trace_id, self.span_id, self.flags)


Given = tuple[str, str | None, str]
"""A trace id, the id of the parent span, and the flags."""

current_trace: ContextVar[TraceContext | None] = ContextVar("msctl_current_trace", default=None)


def record_exception(error: BaseException, *, first: bool = False) -> None:
    """Add an exception to the span that is active now; with `first`, only if it has none yet."""
    context = current_trace.get()
    if context is not None and not (first and hasattr(context, "exception")):
        context.exception = exception_event(error)


def exception_event(error: BaseException) -> SpanEvent:
    """The event that says which line raised, by OpenTelemetry's conventions."""
    stack = "".join(traceback.format_exception(error))
    return SpanEvent(
        "exception",
        time(),
        {
            "exception.type": exception_type(error),
            "exception.message": str(error)[:_LONGEST_MESSAGE],
            "exception.stacktrace": stack[-_LONGEST_STACK:],
        },
    )


def exception_type(error: BaseException) -> str:
    """The class of an exception with its module, as `error.type` has it."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def begin(traceparents: Sequence[str]) -> TraceContext:
    """Start a span in the caller's trace; in a new trace without exactly one valid traceparent."""
    given = parse(traceparents[0]) if len(traceparents) == 1 else None
    return TraceContext(*(given or new_trace()))


def new_trace() -> Given:
    """Start a trace, marked as sampled (W3C Trace Context §3.2.2, §4.3)."""
    return new_trace_id(), None, SAMPLED


def parse(value: str) -> Given | None:
    """Trace id, parent id and flags of a traceparent; None if it is invalid."""
    match = _TRACEPARENT.fullmatch(value)
    if match is None or len(value) > _MAX:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest):
        return None
    if not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    return trace_id, parent_id, flags


def new_id() -> str:
    """A span id. All zeros, which W3C forbids, do not occur in practice."""
    if not _span_ids:
        _draw(_span_ids, 16)
    return _span_ids.pop()


def new_trace_id() -> str:
    if not _trace_ids:
        _draw(_trace_ids, 32)
    return _trace_ids.pop()


def _draw(ids: list[str], size: int) -> None:
    """Draw a block of ids: a system call for each would cost more than the rest of tracing."""
    digits = os.urandom(size // 2 * _DRAWN).hex()
    ids.extend(digits[start : start + size] for start in range(0, size * _DRAWN, size))


def forget_drawn() -> None:
    """Draw new ids from now on: after a fork, and where chance starts again."""
    _span_ids.clear()
    _trace_ids.clear()


_DRAWN = 512
_span_ids: list[str] = []
_trace_ids: list[str] = []

"""Which trace the code that runs now works for: W3C Trace Context, and the context variable that
carries it through the tasks of one request or message.

Pure but for the random bits of new ids.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextvars import ContextVar
from random import getrandbits

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-\S*)?", re.ASCII)
_MAX = 512
"""Characters of the longest traceparent that is taken; ours has 55, later versions may add some."""


class TraceContext:
    """One span at work. Its own id is a number, which becomes text where somebody looks.

    `answered` says that somebody else has answered what the span was asked, `inside` that this was
    in this process; `status` is what was answered, 0 while nobody has said so.
    """

    __slots__ = ("answered", "flags", "inside", "parent_id", "span_id", "status", "trace_id")

    def __init__(self, trace_id: str, parent_id: str | int | None, flags: str) -> None:
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.flags = flags
        self.span_id = getrandbits(64) or 1
        self.answered = False
        self.inside = False
        self.status = 0

    @property
    def traceparent(self) -> str:
        """What to send along with a call that is made for this span."""
        return f"00-{self.trace_id}-{self.span_id:016x}-{self.flags}"

    def callee(self) -> TraceContext:
        """The span of what is called for this one, within this process."""
        self.inside = True
        return TraceContext(self.trace_id, self.span_id, self.flags)


current_trace: ContextVar[TraceContext | None] = ContextVar("msctl_current_trace", default=None)


def begin(traceparents: Sequence[str]) -> TraceContext:
    """A span in the caller's trace, or in a new one where the caller named none that is valid.

    A new trace is marked as sampled (W3C Trace Context §3.2.2, §4.3).
    """
    given = parse(traceparents[0]) if len(traceparents) == 1 else None
    if given is None:
        return TraceContext(f"{getrandbits(128) or 1:032x}", None, "01")
    return TraceContext(*given)


def parse(value: str) -> tuple[str, str, str] | None:
    """Trace id, parent id and flags of a traceparent; None for one that is not valid."""
    match = _TRACEPARENT.fullmatch(value)
    if match is None or len(value) > _MAX:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest):
        return None
    if not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    return trace_id, parent_id, flags


def new_id() -> int:
    """A span's id, never zero."""
    return getrandbits(64) or 1


def shown_id(number: str | int) -> str:
    """A span's id as it is written down."""
    return number if isinstance(number, str) else f"{number:016x}"

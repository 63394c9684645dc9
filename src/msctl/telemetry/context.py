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
    """One span at work. Its own ids are numbers, which become text where somebody looks.

    `client_id` is the id under which it calls others: the span of a call and what the callee makes
    of it then have the same parent, without the caller's client knowing of spans. `answered` says
    that somebody else has answered what the span was asked.
    """

    __slots__ = ("_client_id", "answered", "flags", "parent_id", "span_id", "trace_id")

    def __init__(self, trace_id: str, parent_id: str | int | None, flags: str) -> None:
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.flags = flags
        self.span_id = getrandbits(64) or 1
        self._client_id = 0
        self.answered = False

    @property
    def client_id(self) -> int:
        if not self._client_id:
            self._client_id = getrandbits(64) or 1
        return self._client_id

    @property
    def traceparent(self) -> str:
        """What to send along with a call that is made for this span."""
        return f"00-{self.trace_id}-{self.client_id:016x}-{self.flags}"

    def callee(self) -> TraceContext:
        """The span of what is called for this one, within this process."""
        return TraceContext(self.trace_id, self.client_id, self.flags)


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

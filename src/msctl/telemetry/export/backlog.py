"""Spans waiting to be sent: bounded, with errors and slow spans kept longest. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msctl.telemetry.tracing.span import EndedSpan
from msctl.telemetry.tracing.tracer import SLOW_S

NOTABLE = 512
"""Errors and slow spans kept beyond the limit."""


class Backlog:
    """At most `limit` of the latest spans, and up to `NOTABLE` older notable ones."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._latest: deque[EndedSpan] = deque()
        self._notable: deque[EndedSpan] = deque(maxlen=NOTABLE)

    def __len__(self) -> int:
        return len(self._latest) + len(self._notable)

    def add(self, span: EndedSpan) -> None:
        """Add a span; runs for every span of the process."""
        latest = self._latest
        latest.append(span)
        if len(latest) > self._limit:
            oldest = latest.popleft()
            if oldest.notable(SLOW_S):
                self._notable.append(oldest)

    def take(self, count: int) -> list[EndedSpan]:
        """Remove and return up to `count` of the oldest."""
        taken: list[EndedSpan] = []
        for spans in (self._notable, self._latest):
            while spans and len(taken) < count:
                taken.append(spans.popleft())
        return taken

    def put_back(self, taken: Sequence[EndedSpan]) -> None:
        """Return spans that were not sent; without room for all, the newest stay."""
        room = self._limit - len(self._latest)
        self._latest.extendleft(reversed(taken[-room:] if room > 0 else ()))

"""Spans that wait to be sent: bounded, and with the errors and slow ones kept longest. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msctl.telemetry.tracing.tracer import SLOW_S, Ended

NOTABLE = 512
"""Errors and slow ones that are kept when they have to make room."""


class Backlog:
    """At most `most` of the latest spans, and up to `NOTABLE` notable ones from before them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._latest: deque[Ended] = deque()
        self._notable: deque[Ended] = deque(maxlen=NOTABLE)

    def __len__(self) -> int:
        return len(self._latest) + len(self._notable)

    def add(self, span: Ended) -> None:
        """Runs for every span of a process."""
        latest = self._latest
        latest.append(span)
        if len(latest) > self._most:
            oldest = latest.popleft()
            if oldest.notable(SLOW_S):
                self._notable.append(oldest)

    def take(self, count: int) -> list[Ended]:
        """So many of the oldest, at most."""
        taken: list[Ended] = []
        for spans in (self._notable, self._latest):
            while spans and len(taken) < count:
                taken.append(spans.popleft())
        return taken

    def put_back(self, taken: Sequence[Ended]) -> None:
        """As many of these as there is room for now, the newest first."""
        room = self._most - len(self._latest)
        self._latest.extendleft(reversed(taken[-room:] if room > 0 else ()))

"""The last requests as traces, in memory: bounded, and with the errors and slow ones kept longest.

Spans come in as they end, in any order. Whoever is to have them as well (an exporter) is told of
each at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from msctl.errors import UsageError
from msctl.model import Span, SpanKind, Trace, TraceQuery, TraceSummary

CAPACITY = 1000
"""Traces kept, notable ones included."""
NOTABLE = 300
"""How many of them may be errors and slow ones that outlived the others."""
SLOW_S = 0.25
MAX_SPANS = 64
"""Spans kept of one trace; more are counted."""
MAX_FOUND = 1000

Attributes = Mapping[str, str | int | float | bool]


class Ended(NamedTuple):
    """A span that has ended, as it is kept; `Span` is what is shown of it."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    service: str
    kind: SpanKind
    start: float
    duration_s: float
    error: bool
    attributes: Attributes


class Tracer:
    """Keeps what ends, and finds it again. Implements model.TraceView."""

    def __init__(
        self,
        *,
        capacity: int = CAPACITY,
        notable: int = NOTABLE,
        slow_s: float = SLOW_S,
        export: Callable[[Ended], None] | None = None,
    ) -> None:
        """`export` is called with every span, in the loop; it must not block."""
        self._recent: dict[str, _Kept] = {}
        self._notable: dict[str, _Kept] = {}
        self._recent_capacity = capacity - notable
        self._notable_capacity = notable
        self._slow_s = slow_s
        self._export = export

    def record(self, span: Ended) -> None:
        """Keep a span that has ended."""
        kept = self._recent.get(span.trace_id) or self._notable.get(span.trace_id)
        if kept is None:
            if len(self._recent) >= self._recent_capacity:
                self._retire()
            kept = self._recent[span.trace_id] = _Kept()
        kept.add(span)
        if self._export is not None:
            self._export(span)

    async def traces(self, query: TraceQuery) -> tuple[TraceSummary, ...]:
        return tuple(islice(self._matching(query), max(0, min(query.limit, MAX_FOUND))))

    async def trace(self, trace_id: str) -> Trace:
        found = [
            (name, kept)
            for traces in (self._recent, self._notable)
            for name, kept in traces.items()
            if name.startswith(trace_id)
        ]
        if not trace_id or not found:
            raise UsageError(
                f"no trace {trace_id!r} is kept",
                hint=f"the last {self._recent_capacity + self._notable_capacity} are: msctl traces",
            )
        if len(found) > 1:
            raise UsageError(f"{len(found)} traces begin with {trace_id!r}", hint="give more of the id")
        name, kept = found[0]
        spans = sorted(kept.spans, key=lambda span: span.start)
        return Trace(name, tuple(Span(*span) for span in spans), kept.dropped)

    def _matching(self, query: TraceQuery) -> Iterator[TraceSummary]:
        everything = [*self._notable.items(), *self._recent.items()]
        everything.sort(key=lambda item: item[1].start, reverse=True)
        for trace_id, kept in everything:
            if query.errors and not kept.error:
                continue
            if kept.duration < query.min_duration_s:
                continue
            if query.services and not any(span.service in query.services for span in kept.spans):
                continue
            yield kept.summary(trace_id)

    def _retire(self) -> None:
        """Make room: the oldest goes, to the notable ones if it is one."""
        trace_id = next(iter(self._recent))
        kept = self._recent.pop(trace_id)
        if kept.error or kept.duration >= self._slow_s:
            if len(self._notable) >= self._notable_capacity:
                del self._notable[next(iter(self._notable))]
            self._notable[trace_id] = kept


class _Kept:
    """The spans of one trace that have ended so far."""

    __slots__ = ("dropped", "end", "error", "spans", "start")

    def __init__(self) -> None:
        self.spans: list[Ended] = []
        self.start = float("inf")
        self.end = float("-inf")
        self.error = False
        self.dropped = 0

    @property
    def duration(self) -> float:
        return self.end - self.start

    def add(self, span: Ended) -> None:
        if len(self.spans) >= MAX_SPANS:
            self.dropped += 1
        else:
            self.spans.append(span)
        if span.start < self.start:
            self.start = span.start
        end = span.start + span.duration_s
        if end > self.end:
            self.end = end
        if span.error:
            self.error = True

    def summary(self, trace_id: str) -> TraceSummary:
        spans = sorted(self.spans, key=lambda span: span.start)
        ids = {span.span_id for span in spans}
        first = next((span for span in spans if span.parent_id not in ids), spans[0])
        status = first.attributes.get("http.response.status_code")
        return TraceSummary(
            trace_id=trace_id,
            name=first.name,
            services=tuple(dict.fromkeys(span.service for span in spans)),
            start=self.start,
            duration_s=self.duration,
            spans=len(spans) + self.dropped,
            error=self.error,
            status=status if isinstance(status, int) else None,
        )

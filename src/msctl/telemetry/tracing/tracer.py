"""Keeps the latest traces in memory: bounded, with errors and slow traces kept longest.

Spans arrive as they end, in any order. An exporter gets each one at once.

Two ordered maps from trace id to span groups: `_recent` in order of arrival, and `_notable`. When `_recent`
is full, its oldest trace moves to `_notable` if it has an error or is slow, else it is dropped. A trace is in
at most one of the maps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from msctl.errors import UsageError
from msctl.model.traces import Span, SpanKind, Trace, TraceQuery, TraceSummary

CAPACITY = 1000
"""Kept traces, notable ones included."""
NOTABLE = 300
"""How many of them are reserved for older traces with errors or slow spans."""
SLOW_S = 0.25
MAX_SPANS = 64
"""Kept spans of one trace; more are counted."""
MAX_FOUND = 1000

LONGEST_PATH = 200

Attributes = Mapping[str, str | int | float | bool]
_NO_ATTRIBUTES: Attributes = {}


class EndedSpan(NamedTuple):
    """A finished span. Cheap to create, because most are never read.

    A name of two parts (method and target) is formatted, without the query, in `title`.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str | tuple[str, str]
    service: str
    kind: SpanKind
    start: float
    duration_s: float
    error: bool
    status: int | None = None
    instance: str = ""
    attributes: Attributes = _NO_ATTRIBUTES

    def to_span(self) -> Span:
        """Convert to the model's Span, with OpenTelemetry's attribute names."""
        attributes = dict(self.attributes)
        if self.status is not None:
            attributes["http.response.status_code"] = self.status
        if self.instance:
            key = "server.address" if self.kind is SpanKind.CLIENT else "service.instance.id"
            attributes[key] = self.instance
        return Span(
            self.trace_id,
            self.span_id,
            self.parent_id,
            self.title,
            self.service,
            self.kind,
            self.start,
            self.duration_s,
            self.error,
            attributes,
        )

    def spans(self) -> Iterable[EndedSpan]:
        return (self,)

    def notable(self, slow_s: float) -> bool:
        return self.error or self.duration_s >= slow_s

    @property
    def title(self) -> str:
        if isinstance(self.name, str):
            return self.name
        method, target = self.name
        return f"{method} {target.partition('?')[0][:LONGEST_PATH]}"


class SpanGroup(Protocol):
    """Spans of one trace that ended together; created only when they are read."""

    @property
    def trace_id(self) -> str: ...

    def spans(self) -> Iterable[EndedSpan]: ...

    def notable(self, slow_s: float) -> bool:
        """Whether one of them is an error or took at least `slow_s` seconds."""
        ...


class Tracer:
    """Keeps and finds traces. Implements model.TraceView."""

    def __init__(
        self,
        *,
        capacity: int = CAPACITY,
        notable: int = NOTABLE,
        slow_s: float = SLOW_S,
        export: Callable[[EndedSpan], None] | None = None,
    ) -> None:
        """`export` is called in the loop with every span recorded here; it must not block."""
        self.flush: Callable[[], None] = lambda: None
        """Called before a search: records what is still batched."""
        # Not dict: finding a dict's first key walks over the slots of all deleted ones.
        self._recent: OrderedDict[str, list[SpanGroup]] = OrderedDict()
        self._notable: OrderedDict[str, list[SpanGroup]] = OrderedDict()
        self._dropped: dict[str, int] = {}
        self._recent_capacity = capacity - notable
        self._notable_capacity = notable
        self._slow_s = slow_s
        self._export = export

    def record(self, group: SpanGroup, *, export: bool = True) -> None:
        """Keep a finished group. Runs for every request, so it only stores it."""
        trace_id = group.trace_id
        kept = self._recent.get(trace_id)
        if kept is None:
            kept = self._notable.get(trace_id)
            if kept is None:
                if len(self._recent) >= self._recent_capacity:
                    self._retire()
                kept = self._recent[trace_id] = []
        if len(kept) < MAX_SPANS:
            kept.append(group)
        else:
            self._dropped[trace_id] = self._dropped.get(trace_id, 0) + 1
        if self._export is not None and export:
            for span in group.spans():
                self._export(span)

    def adopt(self, spans: Iterable[EndedSpan]) -> None:
        """Keep spans of other processes; they are not exported from here.

        They arrive late and may arrive twice. A span of a trace that was dropped already does not evict
        a complete trace, unless it is notable.
        """
        self.flush()
        oldest = self._oldest()
        for span in spans:
            kept = self._recent.get(span.trace_id) or self._notable.get(span.trace_id)
            if kept is None:
                if span.start < oldest and not span.notable(self._slow_s):
                    continue
            elif any(type(other) is EndedSpan and other.span_id == span.span_id for other in kept):
                continue
            self.record(span, export=False)

    async def traces(self, query: TraceQuery) -> tuple[TraceSummary, ...]:
        self.flush()
        return tuple(islice(self._matching(query), max(0, min(query.limit, MAX_FOUND))))

    async def trace(self, trace_id: str) -> Trace:
        self.flush()
        found = [
            (name, kept)
            for traces in (self._recent, self._notable)
            for name, kept in traces.items()
            if name.startswith(trace_id)
        ]
        if not trace_id or not found:
            raise UsageError(
                f"trace {trace_id!r} not found",
                hint=f"list the last {self._recent_capacity + self._notable_capacity} traces: msctl traces",
            )
        if len(found) > 1:
            raise UsageError(
                f"{len(found)} traces have ids that start with {trace_id!r}", hint="give more of the id"
            )
        name, kept = found[0]
        spans = sorted(_spans(kept), key=lambda span: span.start)
        return Trace(name, tuple(span.to_span() for span in spans), self._dropped.get(name, 0))

    def _matching(self, query: TraceQuery) -> Iterator[TraceSummary]:
        kept = (*self._notable.items(), *self._recent.items())
        everything = [(trace_id, _spans(groups)) for trace_id, groups in kept]
        everything.sort(key=lambda item: min(span.start for span in item[1]), reverse=True)
        for trace_id, spans in everything:
            if query.errors and not any(span.error for span in spans):
                continue
            if query.services and not any(span.service in query.services for span in spans):
                continue
            summary = _summary(trace_id, spans, self._dropped.get(trace_id, 0))
            if summary.duration_s >= query.min_duration_s:
                yield summary

    def _oldest(self) -> float:
        """The start of the next trace to evict; 0 while there is room."""
        if len(self._recent) < self._recent_capacity:
            return 0.0
        return min(span.start for span in _spans(next(iter(self._recent.values()))))

    def _retire(self) -> None:
        """Evict the oldest recent trace; a notable one moves to `_notable`."""
        trace_id, kept = self._recent.popitem(last=False)
        if not any(group.notable(self._slow_s) for group in kept):
            self._dropped.pop(trace_id, None)
            return
        if len(self._notable) >= self._notable_capacity:
            oldest, _ = self._notable.popitem(last=False)
            self._dropped.pop(oldest, None)
        self._notable[trace_id] = kept


def _spans(kept: Iterable[SpanGroup]) -> list[EndedSpan]:
    return [span for group in kept for span in group.spans()]


def _summary(trace_id: str, spans: Sequence[EndedSpan], dropped: int) -> TraceSummary:
    spans = sorted(spans, key=lambda span: span.start)
    ids = {span.span_id for span in spans}
    root = next((span for span in spans if span.parent_id not in ids), spans[0])
    start = spans[0].start
    return TraceSummary(
        trace_id=trace_id,
        name=root.title,
        services=tuple(dict.fromkeys(span.service for span in spans)),
        start=start,
        duration_s=max(span.start + span.duration_s for span in spans) - start,
        spans=len(spans) + dropped,
        error=any(span.error for span in spans),
        status=root.status,
    )

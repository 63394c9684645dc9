"""The last requests as traces, in memory: bounded, and with the errors and slow ones kept longest.

Spans come in as they end, in any order. Whoever is to have them as well (an exporter) is told of
each at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from msctl.errors import UsageError
from msctl.model.snapshots import Span, SpanKind, Trace, TraceQuery, TraceSummary

CAPACITY = 1000
"""Traces kept, notable ones included."""
NOTABLE = 300
"""How many of them may be errors and slow ones that outlived the others."""
SLOW_S = 0.25
MAX_SPANS = 64
"""Spans kept of one trace; more are counted."""
MAX_FOUND = 1000

LONGEST_PATH = 200

Attributes = Mapping[str, str | int | float | bool]
_NO_ATTRIBUTES: Attributes = {}


class Ended(NamedTuple):
    """A span that has ended, as it is kept: cheap to make, as nobody looks at most of them.

    A name of two parts (method and target) is put together, and its query left out, when shown.
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

    def shown(self) -> Span:
        """The span with all that is known of it, in OpenTelemetry's terms."""
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

    def spans(self) -> Iterable[Ended]:
        return (self,)

    def notable(self, slow_s: float) -> bool:
        return self.error or self.duration_s >= slow_s

    @property
    def title(self) -> str:
        if isinstance(self.name, str):
            return self.name
        method, target = self.name
        return f"{method} {target.partition('?')[0][:LONGEST_PATH]}"


class Bunch(Protocol):
    """Spans of one trace that ended together, written out only where somebody looks."""

    @property
    def trace_id(self) -> str: ...

    def spans(self) -> Iterable[Ended]: ...

    def notable(self, slow_s: float) -> bool:
        """Whether one of them is an error, or took that long."""
        ...


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
        self.settle: Callable[[], None] = lambda: None
        """Called before anything is looked for: lets spans in that have been put off."""
        # Ordered by their own means: the oldest of a plain dict is found past the holes of those before.
        self._recent: OrderedDict[str, list[Bunch]] = OrderedDict()
        self._notable: OrderedDict[str, list[Bunch]] = OrderedDict()
        self._dropped: dict[str, int] = {}
        self._recent_capacity = capacity - notable
        self._notable_capacity = notable
        self._slow_s = slow_s
        self._export = export

    def record(self, bunch: Bunch, *, export: bool = True) -> None:
        """Keep what has ended. Runs for every request, so it only puts it in its place."""
        trace_id = bunch.trace_id
        kept = self._recent.get(trace_id)
        if kept is None:
            kept = self._notable.get(trace_id)
            if kept is None:
                if len(self._recent) >= self._recent_capacity:
                    self._retire()
                kept = self._recent[trace_id] = []
        if len(kept) < MAX_SPANS:
            kept.append(bunch)
        else:
            self._dropped[trace_id] = self._dropped.get(trace_id, 0) + 1
        if self._export is not None and export:
            for span in bunch.spans():
                self._export(span)

    def adopt(self, spans: Iterable[Ended]) -> None:
        """Keep what has ended in other processes, and is not to be exported from here.

        It comes late, and may come twice: what belongs to a trace that had to go does not push out one
        that is whole, unless it is notable.
        """
        self.settle()
        oldest = self._oldest()
        for span in spans:
            kept = self._recent.get(span.trace_id) or self._notable.get(span.trace_id)
            if kept is None:
                if span.start < oldest and not span.notable(self._slow_s):
                    continue
            elif any(type(other) is Ended and other.span_id == span.span_id for other in kept):
                continue
            self.record(span, export=False)

    async def traces(self, query: TraceQuery) -> tuple[TraceSummary, ...]:
        self.settle()
        return tuple(islice(self._matching(query), max(0, min(query.limit, MAX_FOUND))))

    async def trace(self, trace_id: str) -> Trace:
        self.settle()
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
        spans = sorted(_spans(kept), key=lambda span: span.start)
        return Trace(name, tuple(span.shown() for span in spans), self._dropped.get(name, 0))

    def _matching(self, query: TraceQuery) -> Iterator[TraceSummary]:
        kept = (*self._notable.items(), *self._recent.items())
        everything = [(trace_id, _spans(bunches)) for trace_id, bunches in kept]
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
        """When the next trace to go began; 0 while there is room."""
        if len(self._recent) < self._recent_capacity:
            return 0.0
        return min(span.start for span in _spans(next(iter(self._recent.values()))))

    def _retire(self) -> None:
        """Make room: the oldest goes, to the notable ones if it is one."""
        trace_id, kept = self._recent.popitem(last=False)
        if not any(bunch.notable(self._slow_s) for bunch in kept):
            self._dropped.pop(trace_id, None)
            return
        if len(self._notable) >= self._notable_capacity:
            oldest, _ = self._notable.popitem(last=False)
            self._dropped.pop(oldest, None)
        self._notable[trace_id] = kept


def _spans(kept: Iterable[Bunch]) -> list[Ended]:
    return [span for bunch in kept for span in bunch.spans()]


def _summary(trace_id: str, spans: Sequence[Ended], dropped: int) -> TraceSummary:
    spans = sorted(spans, key=lambda span: span.start)
    ids = {span.span_id for span in spans}
    first = next((span for span in spans if span.parent_id not in ids), spans[0])
    start = spans[0].start
    return TraceSummary(
        trace_id=trace_id,
        name=first.title,
        services=tuple(dict.fromkeys(span.service for span in spans)),
        start=start,
        duration_s=max(span.start + span.duration_s for span in spans) - start,
        spans=len(spans) + dropped,
        error=any(span.error for span in spans),
        status=first.status,
    )

"""Keeps the latest traces in memory: bounded, with errors and slow traces kept longest.

Spans arrive as they end, in any order. An exporter gets each one at once.

Two ordered maps from trace id to span groups: `_recent` in order of arrival, and `_notable`. When `_recent`
is full, its oldest trace moves to `_notable` if it has an error or is slow, else it is dropped. A trace is in
at most one of the maps.

Groups arrive much faster than anybody reads. So they wait in `_pending`, in order, and go into the maps when
somebody reads. When twice as many as `_recent` holds wait, the older ones would be evicted by the newer
ones; of those only the traces that are notable, or known already, are kept.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from time import monotonic

from msctl.errors import UsageError
from msctl.model.traces import ObservedCalls, Trace, TraceQuery, TraceSummary, path_of
from msctl.telemetry.tracing.calls import observed_calls
from msctl.telemetry.tracing.fault_marks import FaultMarks
from msctl.telemetry.tracing.search import status_matcher, text_matcher
from msctl.telemetry.tracing.span import EndedSpan, SpanGroup
from msctl.telemetry.tracing.telling import most_telling

CAPACITY = 1000
"""Kept traces, notable ones included."""
NOTABLE = 300
"""How many of them are reserved for older traces with errors or slow spans."""
SLOW_S = 0.25
MAX_SPANS = 128
"""Kept groups of spans of one trace, the most telling ones; more are counted. Twice as many wait to be chosen
from, so that the choice costs little for each."""
MAX_FOUND = 1000
CALLS_KEPT_S = 2.0
"""For so long an answer is given again."""


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
        self._pending: list[SpanGroup] = []
        self._telling: set[str] = set()
        """The traces of pending groups that are notable."""
        self._dropped: dict[str, int] = {}
        self._recent_capacity = capacity - notable
        self._notable_capacity = notable
        self.slow_s = slow_s
        self._export = export
        self._calls: tuple[float, asyncio.Future[ObservedCalls]] | None = None
        self.marks = FaultMarks()
        """The spans that faults have touched; their traces are notable."""

    def record(self, group: SpanGroup) -> None:
        """Keep a finished group."""
        self.record_all((group,))

    def record_all(self, groups: Sequence[SpanGroup], suspects: Iterable[SpanGroup] | None = None) -> None:
        """Keep finished groups, oldest first. Runs for every request, so it only stores them.

        Only `suspects` may be notable, all of them where none are given.
        """
        if self._export is not None:
            for group in groups:
                for span in self.marks.applied(group.spans()):
                    self._export(span)
        slow_s = self.slow_s
        for group in groups if suspects is None else suspects:
            if group.notable(slow_s):
                self._telling.add(group.trace_id)
        pending = self._pending
        pending += groups
        if len(pending) >= 2 * self._recent_capacity:
            self._overflow(pending)

    def _overflow(self, pending: list[SpanGroup]) -> None:
        """Drop what the newer ones of `pending` would evict."""
        older = pending[: -self._recent_capacity]
        del pending[: -self._recent_capacity]
        telling, marks = self._telling, self.marks
        if not (telling or marks or self._recent or self._notable):
            return
        for group in older:
            trace_id = group.trace_id
            if (
                trace_id in telling
                or trace_id in marks
                or trace_id in self._recent
                or trace_id in self._notable
            ):
                self._keep(group)
        telling.intersection_update([group.trace_id for group in pending])

    def _settle(self) -> None:
        """Put everything that was recorded into the maps."""
        self.flush()
        pending, self._pending = self._pending, []
        self._telling.clear()
        for group in pending:
            self._keep(group)

    def _keep(self, group: SpanGroup) -> None:
        trace_id = group.trace_id
        kept = self._recent.get(trace_id)
        if kept is None:
            kept = self._notable.get(trace_id)
            if kept is None:
                if len(self._recent) >= self._recent_capacity:
                    self._retire()
                kept = self._recent[trace_id] = []
        kept.append(group)
        if len(kept) >= 2 * MAX_SPANS:
            self._thin_out(trace_id, kept)

    def adopt(self, spans: Iterable[EndedSpan]) -> None:
        """Keep spans of other processes; they are not exported from here.

        They arrive late and may arrive twice. A span of a trace that was dropped already does not evict
        a complete trace, unless it is notable.
        """
        self._settle()
        oldest = self._oldest()
        by_trace: dict[str, list[EndedSpan]] = {}
        for span in spans:
            by_trace.setdefault(span.trace_id, []).append(span)
        for trace_id, arrived in by_trace.items():
            kept = self._recent.get(trace_id) or self._notable.get(trace_id) or ()
            known = {span.span_id for span in kept if type(span) is EndedSpan}
            for span in arrived:
                if span.span_id in known:
                    continue
                if not known and not kept and span.start < oldest and not span.notable(self.slow_s):
                    continue
                known.add(span.span_id)
                self._keep(span)

    async def traces(self, query: TraceQuery) -> tuple[TraceSummary, ...]:
        self._settle()
        return tuple(islice(self._matching(query), max(0, min(query.limit, MAX_FOUND))))

    async def trace(self, trace_id: str) -> Trace:
        self._settle()
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
        self._thin_out(name, kept)
        spans = sorted(self.marks.applied(_all(kept)), key=lambda span: span.start)
        return Trace(name, tuple(span.to_span() for span in spans), self._dropped.get(name, 0))

    async def calls(self) -> ObservedCalls:
        """Who called whom in the kept traces; counted in a thread, as pages ask every few seconds."""
        now = monotonic()
        if self._calls is None or now - self._calls[0] >= CALLS_KEPT_S:
            self._settle()
            kept = [tuple(groups) for groups in (*self._notable.values(), *self._recent.values())]
            self._calls = (now, asyncio.ensure_future(asyncio.to_thread(observed_calls, kept)))
        return await asyncio.shield(self._calls[1])

    def grown(self, seen: dict[str, int], limit: int) -> dict[str, tuple[TraceSummary, Trace]]:
        """Return up to `limit` traces with more spans than in `seen`, notable ones first; updates `seen`."""
        self._settle()
        found: dict[str, tuple[TraceSummary, Trace]] = {}
        for traces in (self._notable, self._recent):
            for trace_id, kept in reversed(traces.items()):
                size = len(kept) + self._dropped.get(trace_id, 0)
                if seen.get(trace_id) == size:
                    continue
                if len(found) >= limit:
                    break
                seen[trace_id] = size
                dropped = self._dropped.get(trace_id, 0)
                spans = sorted(self.marks.applied(_all(kept)), key=lambda span: span.start)
                whole = Trace(trace_id, tuple(span.to_span() for span in spans), dropped)
                found[trace_id] = _summary(trace_id, spans, dropped), whole
        for trace_id in seen.keys() - self._recent.keys() - self._notable.keys():
            del seen[trace_id]
        return found

    def _matching(self, query: TraceQuery) -> Iterator[TraceSummary]:
        has_text, has_status = text_matcher(query.text), status_matcher(query.status)
        kept = (*self._notable.items(), *self._recent.items())
        everything = [(trace_id, list(self.marks.applied(_all(groups)))) for trace_id, groups in kept]
        everything.sort(key=lambda item: min(span.start for span in item[1]), reverse=True)
        for trace_id, spans in everything:
            if query.errors and not any(span.error for span in spans):
                continue
            if query.services and not any(span.service in query.services for span in spans):
                continue
            if query.text and not has_text(
                (span.service, span.title, span.described(), span.events) for span in spans
            ):
                continue
            summary = _summary(trace_id, spans, self._dropped.get(trace_id, 0))
            if summary.duration_s >= query.min_duration_s and has_status(summary.status):
                yield summary

    def _thin_out(self, trace_id: str, kept: list[SpanGroup]) -> None:
        """Keep the most telling groups of a trace that has too many."""
        if len(kept) <= MAX_SPANS:
            return
        before = sum(1 for _ in _all(kept))
        kept[:] = most_telling(kept, MAX_SPANS)
        self._dropped[trace_id] = self._dropped.get(trace_id, 0) + before - sum(1 for _ in _all(kept))

    def _oldest(self) -> float:
        """The start of the next trace to evict; 0 while there is room."""
        if len(self._recent) < self._recent_capacity:
            return 0.0
        return min(span.start for span in _spans(next(iter(self._recent.values()))))

    def _retire(self) -> None:
        """Evict the oldest recent trace; a notable one moves to `_notable`."""
        trace_id, kept = self._recent.popitem(last=False)
        if trace_id not in self.marks and not any(group.notable(self.slow_s) for group in kept):
            self._dropped.pop(trace_id, None)
            return
        if len(self._notable) >= self._notable_capacity:
            oldest, _ = self._notable.popitem(last=False)
            self._dropped.pop(oldest, None)
        self._notable[trace_id] = kept


def _spans(kept: Iterable[SpanGroup]) -> list[EndedSpan]:
    return list(_all(kept))


def _all(kept: Iterable[SpanGroup]) -> Iterator[EndedSpan]:
    return (span for group in kept for span in group.spans())


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
        path=path_of(root.described()),
    )

"""Which spans faults have touched. Pure.

A fault strikes before its span ends, and few spans are touched. So the marks are kept beside the spans, and
added where spans are read or exported: a span without one costs nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from msctl.telemetry.tracing.span import EndedSpan

ATTRIBUTE = "msctl.fault"
MAX_TRACES = 2000
MAX_SPANS = 256
"""Marked spans of one trace; a client may send the same trace id with all its requests."""


class FaultMarks:
    """The ids of faults by trace and span, of the latest traces."""

    def __init__(self) -> None:
        self._traces: OrderedDict[str, dict[str, str]] = OrderedDict()

    def __len__(self) -> int:
        """The number of traces with marks."""
        return len(self._traces)

    def __contains__(self, trace_id: str) -> bool:
        return trace_id in self._traces

    def add(self, trace_id: str, span_id: str, faults: Sequence[str]) -> None:
        """Mark a span, finished or not."""
        spans = self._traces.get(trace_id)
        if spans is None:
            if len(self._traces) >= MAX_TRACES:
                self._traces.popitem(last=False)
            spans = self._traces[trace_id] = {}
        known = spans.get(span_id)
        if known is None and len(spans) >= MAX_SPANS:
            return
        spans[span_id] = ", ".join(faults if known is None else dict.fromkeys([*known.split(", "), *faults]))

    def applied(self, spans: Iterable[EndedSpan]) -> Iterable[EndedSpan]:
        """Return the spans, each with the faults that touched it as an attribute."""
        return map(self._marked, spans) if self._traces else spans

    def _marked(self, span: EndedSpan) -> EndedSpan:
        found = self._traces.get(span.trace_id)
        faults = None if found is None else found.get(span.span_id)
        if faults is None:
            return span
        return span._replace(attributes={**span.attributes, ATTRIBUTE: faults})

"""A finished span as it is kept: cheap to make, converted only when it is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from msctl.model.traces import Span, SpanEvent, SpanKind

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
    events: tuple[SpanEvent, ...] = ()
    message: str = ""

    def to_span(self) -> Span:
        """Convert to the model's Span, with OpenTelemetry's attribute names."""
        attributes = dict(self.attributes)
        if not isinstance(self.name, str):
            method, target = self.name
            attributes["http.request.method"] = method
            attributes["url.path"] = target.partition("?")[0][:LONGEST_PATH]
        if self.status is not None:
            attributes["http.response.status_code"] = self.status
            if self.error:
                attributes.setdefault("error.type", str(self.status))
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
            self.events,
            self.message,
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

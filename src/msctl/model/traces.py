"""Traces as a running stack keeps and shows them (OpenTelemetry's terms)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class SpanKind(StrEnum):
    """OpenTelemetry's span kinds."""

    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"
    INTERNAL = "internal"
    """Work inside a program; only services in processes of their own report it."""


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened within a span at `time` (epoch seconds): an exception, with its stack trace."""

    name: str
    time: float
    attributes: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """One unit of work; `start` is epoch seconds. `message` says why it is an error, if its program told."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    service: str
    kind: SpanKind
    start: float
    duration_s: float
    error: bool = False
    attributes: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """One trace in a list, with the name and status of its first span, and the path if that is a request."""

    trace_id: str
    name: str
    services: tuple[str, ...]
    start: float
    duration_s: float
    spans: int
    error: bool
    status: int | None = None
    path: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """The kept spans of one trace, by start; `dropped` counts the others."""

    trace_id: str
    spans: tuple[Span, ...]
    dropped: int = 0

    @property
    def path(self) -> str:
        """The path of the first request."""
        ids = {span.span_id for span in self.spans}
        root = next((span for span in self.spans if span.parent_id not in ids), None)
        return "" if root is None else path_of(root.attributes)


def path_of(attributes: Mapping[str, str | int | float | bool]) -> str:
    """The path of a request's span, also by the name of OpenTelemetry's older conventions; empty for none."""
    return str(attributes.get("url.path") or attributes.get("http.target", ""))


@dataclass(frozen=True, slots=True)
class TraceQuery:
    """A selection of traces, newest first: those with a span of one of these services (empty: all).

    `status` is that of the first span, such as 404, or a class such as 5xx. `text` is in the name, the
    service, an attribute or an event of a span; `key=value` is an attribute.
    """

    services: tuple[str, ...] = ()
    errors: bool = False
    min_duration_s: float = 0.0
    limit: int = 50
    status: str = ""
    text: str = ""


class CallKind(StrEnum):
    """How one part of a system reaches another."""

    HTTP = "http"
    SEND = "send"
    """A service publishes to a queue or exchange."""
    RECEIVE = "receive"
    """A service takes messages from a queue."""


@dataclass(frozen=True, slots=True)
class Call:
    """The calls between two parts, as kept traces have them.

    `caller` and `callee` are services, except for a destination of messages, and for `outside`: a callee that
    reported no span, named by its address. `p95_s` is of the callee's spans where it reported some.
    `trace_id` is the newest trace with such a call, a failed one if there is one.
    """

    caller: str
    callee: str
    kind: CallKind
    count: int
    errors: int
    p95_s: float
    trace_id: str
    outside: bool = False


@dataclass(frozen=True, slots=True)
class ObservedCalls:
    """`failed` of `traces` have a span with an error; `since` is the start of the oldest in epoch seconds."""

    calls: tuple[Call, ...]
    traces: int
    failed: int = 0
    since: float | None = None

"""Traces as a running stack keeps and shows them (OpenTelemetry's terms)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class SpanKind(StrEnum):
    """Which side of a call a span is (OpenTelemetry's kinds)."""

    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"
    INTERNAL = "internal"
    """Neither: work within a program, of which only those that run on their own tell."""


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of work for a request: who did what, when (epoch seconds) and for how long."""

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


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """One trace in a list; its name and status are those of its first span."""

    trace_id: str
    name: str
    services: tuple[str, ...]
    start: float
    duration_s: float
    spans: int
    error: bool
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """All that is kept of one trace: its spans, by their beginning."""

    trace_id: str
    spans: tuple[Span, ...]
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class TraceQuery:
    """Which traces: those that touched one of these services (none named means all), newest first."""

    services: tuple[str, ...] = ()
    errors: bool = False
    min_duration_s: float = 0.0
    limit: int = 50

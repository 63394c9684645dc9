"""The backlog is bounded and keeps errors and slow spans longest."""

from __future__ import annotations

from msctl.model.traces import SpanKind
from msctl.telemetry.export.backlog import NOTABLE, Backlog
from msctl.telemetry.tracing.span import EndedSpan
from msctl.telemetry.tracing.tracer import SLOW_S


def span(number: int, *, error: bool = False, seconds: float = 0.001) -> EndedSpan:
    return EndedSpan(
        "ab" * 16, f"{number:016x}", None, str(number), "users", SpanKind.SERVER, 0.0, seconds, error
    )


def names(spans: list[EndedSpan]) -> list[str]:
    return [span.title for span in spans]


def test_the_oldest_span_is_dropped_and_taken_first() -> None:
    backlog = Backlog(3)
    for number in range(5):
        backlog.add(span(number))
    assert len(backlog) == 3
    assert names(backlog.take(2)) == ["2", "3"]
    assert names(backlog.take(2)) == ["4"]
    assert backlog.take(2) == []


def test_errors_and_slow_spans_are_kept_longer_within_a_limit() -> None:
    backlog = Backlog(2)
    backlog.add(span(0, error=True))
    backlog.add(span(1, seconds=SLOW_S))
    for number in range(2, 9):
        backlog.add(span(number))
    assert names(backlog.take(9)) == ["0", "1", "7", "8"]
    for number in range(NOTABLE * 2):
        backlog.add(span(number, error=True))
    assert len(backlog) == NOTABLE + 2


def test_unsent_spans_go_back_to_the_front() -> None:
    backlog = Backlog(4)
    for number in range(3):
        backlog.add(span(number))
    taken = backlog.take(3)
    backlog.add(span(3))
    backlog.add(span(4))
    backlog.put_back(taken)
    assert names(backlog.take(9)) == ["1", "2", "3", "4"]
    for number in range(4):
        backlog.add(span(number))
    backlog.put_back(taken)
    assert names(backlog.take(9)) == ["0", "1", "2", "3"]

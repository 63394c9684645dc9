"""Which spans are shown with the faults that touched them."""

from __future__ import annotations

from msctl.model.traces import SpanKind
from msctl.telemetry.tracing import fault_marks
from msctl.telemetry.tracing.fault_marks import ATTRIBUTE, FaultMarks
from msctl.telemetry.tracing.span import EndedSpan


def span(trace: str, number: str) -> EndedSpan:
    return EndedSpan(trace, number, None, "work", "users", SpanKind.SERVER, 1.0, 0.1, False)


def faults_of(marks: FaultMarks, *spans: EndedSpan) -> list[object]:
    return [one.to_span().attributes.get(ATTRIBUTE) for one in marks.applied(spans)]


def test_only_the_spans_that_were_touched_are_marked() -> None:
    marks = FaultMarks()
    assert faults_of(marks, span("t", "1")) == [None]
    marks.add("t", "1", ["f1"])
    marks.add("t", "1", ["f2", "f1"])
    assert faults_of(marks, span("t", "1"), span("t", "2"), span("u", "1")) == ["f1, f2", None, None]
    assert ("t" in marks, "u" in marks) == (True, False)


def test_marks_are_bounded_by_traces_and_by_spans_of_each() -> None:
    marks = FaultMarks()
    for number in range(fault_marks.MAX_SPANS + 1):
        marks.add("t", str(number), ["f1"])
    assert faults_of(marks, span("t", "0"), span("t", str(fault_marks.MAX_SPANS))) == ["f1", None]
    for number in range(fault_marks.MAX_TRACES):
        marks.add(f"u{number}", "1", ["f1"])
    assert ("t" in marks, "u0" in marks) == (False, True)

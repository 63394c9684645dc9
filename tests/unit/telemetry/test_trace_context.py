"""W3C Trace Context: a valid caller's trace continues, an invalid one does not."""

from __future__ import annotations

import re

import pytest

from msctl.telemetry.trace_context import begin, parse

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


def test_a_valid_trace_continues_under_a_new_span() -> None:
    context = begin([VALID])
    assert (context.trace_id, context.parent_id) == (TRACE, SPAN)
    assert context.span_id != SPAN
    assert context.traceparent == f"00-{TRACE}-{context.span_id}-01"


def test_a_call_in_this_process_is_a_child_span() -> None:
    caller = begin([VALID])
    callee = caller.callee()
    assert (callee.trace_id, callee.parent_id) == (TRACE, caller.span_id)
    assert callee.span_id != caller.span_id


def test_the_decision_not_to_sample_is_passed_on() -> None:
    assert begin([f"00-{TRACE}-{SPAN}-00"]).traceparent.endswith("-00")


@pytest.mark.parametrize(
    "given",
    [
        [],
        [VALID, VALID],
        [""],
        [VALID + "-more"],
        [VALID.upper()],
        [f"ff-{TRACE}-{SPAN}-01"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE}-{SPAN}"],
        [f"01-{TRACE}-{SPAN}-01-" + "x" * 600],
    ],
)
def test_an_invalid_traceparent_starts_a_new_trace(given: list[str]) -> None:
    context = begin(given)
    assert re.fullmatch(r"[0-9a-f]{32}", context.trace_id)
    assert context.trace_id != TRACE
    assert context.parent_id is None
    assert parse(context.traceparent) is not None


def test_a_later_version_is_parsed_as_version_00() -> None:
    assert parse(f"01-{TRACE}-{SPAN}-01-more") == (TRACE, SPAN, "01")

"""W3C Trace Context: a caller's trace is kept, a broken one never is."""

from __future__ import annotations

import re

import pytest

from msctl.telemetry.trace_context import begin, parse

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


def test_a_valid_trace_goes_on_under_a_new_span() -> None:
    context = begin([VALID])
    assert (context.trace_id, context.parent_id) == (TRACE, SPAN)
    assert context.span_id != SPAN
    assert context.traceparent == f"00-{TRACE}-{context.span_id}-01"


def test_what_is_called_in_this_process_is_a_span_below() -> None:
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
def test_anything_else_begins_a_new_trace(given: list[str]) -> None:
    context = begin(given)
    assert re.fullmatch(r"[0-9a-f]{32}", context.trace_id)
    assert context.trace_id != TRACE
    assert context.parent_id is None
    assert parse(context.traceparent) is not None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert parse(f"01-{TRACE}-{SPAN}-01-more") == (TRACE, SPAN, "01")

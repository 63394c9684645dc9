"""Spans of other programs are parsed and bounded, or refused with a reason."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from msctl.model.traces import SpanEvent, SpanKind
from msctl.telemetry.export.otlp import document
from msctl.telemetry.ingest import otlp
from msctl.telemetry.ingest.otlp import (
    LONGEST_STACK,
    MAX_EVENTS,
    MalformedError,
    Sender,
    ended_span,
    from_json,
)
from msctl.telemetry.tracing.span import EndedSpan, HttpRequest

ORIGIN = Sender("users", "users-1")
SPAN: dict[str, Any] = {
    "traceId": "AB" * 16,
    "spanId": "000000000000001f",
    "parentSpanId": "CD" * 8,
    "name": "GET /users",
    "kind": 2,
    "startTimeUnixNano": "1700000000500000000",
    "endTimeUnixNano": "1700000000750000000",
    "attributes": [
        {"key": "http.response.status_code", "value": {"intValue": "503"}},
        {"key": "retried", "value": {"boolValue": True}},
        {"key": "ratio", "value": {"doubleValue": 0.5}},
        {"key": "word", "value": {"stringValue": "x"}},
    ],
    "status": {"code": 2, "message": "too bad"},
    "events": [{"name": "an event", "timeUnixNano": "2000000000"}],
    "aFieldOfTomorrow": [[{}]],
}


def request(*spans: object) -> bytes:
    return json.dumps(
        {
            "resourceSpans": [
                {
                    "resource": {
                        "attributes": [{"key": "service.name", "value": {"stringValue": "another"}}]
                    },
                    "scopeSpans": [{"scope": {"name": "x"}, "spans": list(spans)}],
                }
            ]
        }
    ).encode()


def parse(body: bytes) -> list[EndedSpan]:
    return [ended_span(span, ORIGIN) for _, span in from_json(body)]


def parsed(**changes: object) -> EndedSpan:
    (found,) = parse(request({**SPAN, **changes}))
    return found


def test_a_span_is_parsed_and_belongs_to_its_sender() -> None:
    assert parsed() == EndedSpan(
        "ab" * 16,
        "000000000000001f",
        "cd" * 8,
        "GET /users",
        "users",
        SpanKind.SERVER,
        1_700_000_000.5,
        0.25,
        True,
        503,
        "users-1",
        {"retried": True, "ratio": 0.5, "word": "x"},
        (SpanEvent("an event", 2.0),),
        "too bad",
    )


def test_an_exception_keeps_the_end_of_its_stack_trace_and_comes_before_other_events() -> None:
    stack = "Traceback (most recent call last):\n" + "  line\n" * 5000 + "ValueError: x\x1b"
    value = {"key": "exception.stacktrace", "value": {"stringValue": stack}}
    many = [{"name": f"event {number}"} for number in range(100)]
    found = parsed(events=[*many, {"name": "exception", "attributes": [value]}]).events

    assert (len(found), found[0].name) == (MAX_EVENTS, "exception")
    kept = str(found[0].attributes["exception.stacktrace"])
    assert kept.endswith("  line\nValueError: x\N{REPLACEMENT CHARACTER}")
    assert len(kept) <= LONGEST_STACK


@pytest.mark.parametrize(
    "nothing", [b"{}", b'{"resourceSpans": null}', b'{"resourceSpans": [{}]}', request()]
)
def test_a_request_without_spans_is_valid(nothing: bytes) -> None:
    assert parse(nothing) == []


def test_missing_fields_have_defaults() -> None:
    (found,) = parse(request({"traceId": "1" * 32, "spanId": "2" * 16, "startTimeUnixNano": 5_000_000_000}))
    assert (found.parent_id, found.kind, found.name) == (None, SpanKind.INTERNAL, "internal")
    assert (found.start, found.duration_s, found.error, found.status) == (5.0, 0.0, False, None)


@pytest.mark.parametrize("parent", [None, "", "0" * 16, SPAN["spanId"]])
def test_an_empty_parent_is_none_and_a_span_is_not_its_own_parent(parent: str | None) -> None:
    assert parsed(parentSpanId=parent).parent_id is None


def test_the_status_attribute_of_older_sdks_is_read() -> None:
    old = [{"key": "http.status_code", "value": {"intValue": 404}}]
    assert parsed(attributes=old).status == 404
    assert parsed(attributes=[{"key": "http.status_code", "value": {"stringValue": "404"}}]).status is None


def test_client_spans_keep_their_peer_and_others_have_the_senders_instance() -> None:
    given_by_sender = [
        {"key": "service.instance.id", "value": {"stringValue": "somebody-else"}},
        {"key": "server.address", "value": {"stringValue": "db"}},
    ]
    client = parsed(kind=3, attributes=given_by_sender).to_span()
    assert client.attributes["server.address"] == "db"
    server = parsed(kind=5, attributes=given_by_sender).to_span()
    assert (server.kind, server.attributes["service.instance.id"]) == (SpanKind.CONSUMER, "users-1")


def test_values_that_json_cannot_show_are_skipped() -> None:
    values: list[object] = [
        {"arrayValue": {"values": []}},
        {"doubleValue": "NaN"},
        {"intValue": str(2**64)},
        {"bytesValue": "AA=="},
        {},
        None,
    ]
    attributes = [{"key": f"k{n}", "value": value} for n, value in enumerate(values)]
    attributes.append({"key": "", "value": {"stringValue": "nameless"}})
    assert parsed(attributes=attributes).attributes == {}


def test_text_is_cut_and_control_characters_are_replaced() -> None:
    long = [{"key": "k" * 500, "value": {"stringValue": "v\x1b[2J" + "v" * 5000}}]
    found = parsed(name="GET /\x1b]0;gone\x07\n" + "x" * 5000, attributes=long)
    assert len(found.title) == 200
    assert found.title.isprintable()
    ((key, value),) = found.attributes.items()
    assert (len(key), len(str(value))) == (otlp.LONGEST_KEY, otlp.LONGEST_VALUE)
    assert str(value).isprintable()


def test_attributes_are_bounded_in_number_and_size() -> None:
    many = [{"key": f"k{n}", "value": {"boolValue": True}} for n in range(500)]
    assert len(parsed(attributes=many).attributes) == otlp.MAX_ATTRIBUTES
    wide = [{"key": f"k{n}", "value": {"stringValue": "v" * 256}} for n in range(30)]
    kept = parsed(attributes=wide).attributes
    assert sum(len(key) + len(str(value)) for key, value in kept.items()) <= otlp.MAX_ATTRIBUTES_SIZE
    assert len(kept) == 7


@pytest.mark.parametrize(
    "changes",
    [
        {"traceId": "ab"},
        {"traceId": "0" * 32},
        {"traceId": "g" * 32},
        {"traceId": "\N{ARABIC-INDIC DIGIT ONE}" * 32},
        {"spanId": "0" * 16},
        {"spanId": "1" * 17},
        {"parentSpanId": "x"},
        {"startTimeUnixNano": "soon"},
        {"startTimeUnixNano": -1},
        {"startTimeUnixNano": "9" * 20},
        {"startTimeUnixNano": "9" * 10_000},
        {"endTimeUnixNano": 2**63},
        {"kind": "SPAN_KIND_SERVER"},
        {"attributes": [{"key": "n", "value": {"intValue": "1_0"}}]},
        {"attributes": 5},
        {"status": {"code": "2"}},
        {"name": None},
    ],
)
def test_an_invalid_span_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        parsed(**changes)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"spans",
        b"[]",
        b"{",
        b'{"resourceSpans": {}}',
        b'{"x": ' + b"[" * 200_000,
        b'{"resourceSpans": "\xff"}',
        request({**SPAN, "name": "?"}).replace(b"?", b"\xff"),
        request({**SPAN, "name": "?"}).replace(b"?", b"\\ud800"),
    ],
)
def test_a_malformed_body_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedError, match="not an ExportTraceServiceRequest"):
        parse(body)


_NAMES = [*SPAN, "key", "value", "intValue", "doubleValue", "stringValue"]
_ANYTHING: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(_NAMES), inner),
)


@given(_ANYTHING)
def test_any_span_is_parsed_or_refused(value: object) -> None:
    for changes in ({name: value} for name in SPAN):
        try:
            found = parsed(**changes)
        except MalformedError:
            continue
        msgspec.json.encode(found.to_span())


_hex = st.integers(1, 2**64 - 1).map("{:016x}".format)
_texts = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40)
_spans = st.builds(
    EndedSpan,
    trace_id=st.integers(1, 2**128 - 1).map("{:032x}".format),
    span_id=_hex,
    parent_id=st.none() | _hex,
    name=_texts
    | st.builds(
        HttpRequest,
        st.sampled_from(["GET", "LOCK"]),
        st.just("/users/7?secret=1"),
        st.sampled_from(["", "/users/{id}"]),
        st.just("https"),
        st.just(("::1", 8080)),
        client=st.sampled_from(["", "127.0.0.1"]),
        version=st.sampled_from([None, (1, 0)]),
        url=st.sampled_from(["", "http://127.0.0.1"]),
        resent=st.integers(0, 9),
    ),
    service=st.just("users"),
    kind=st.sampled_from(SpanKind),
    start=st.floats(0, 4e9),
    duration_s=st.floats(0, 1e5),
    error=st.booleans(),
    status=st.none() | st.integers(100, 599),
    instance=st.just("users-1"),
    attributes=st.dictionaries(
        _texts,
        st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | _texts
        | st.floats(allow_nan=False, allow_infinity=False),
        max_size=8,
    ),
    events=st.just(()),
    message=st.just(""),
)


@given(_spans)
def test_exported_spans_can_be_parsed_again(span: EndedSpan) -> None:
    assume(span.parent_id != span.span_id)
    (read,) = parse(msgspec.json.encode(document([span], "shop")))
    before, after = span.to_span(), read.to_span()
    assert after.start == pytest.approx(before.start, abs=1e-6)
    assert after.duration_s == pytest.approx(before.duration_s, abs=2e-6)
    same = ("trace_id", "span_id", "parent_id", "name", "service", "kind", "error", "attributes")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]

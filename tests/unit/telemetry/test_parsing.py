"""What programs print is read: level, message, trace and fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.processes.line_backlog import LineBacklog
from msctl.telemetry.logs.parsing import MAX_FIELD, MAX_FIELDS, level_of, parse, parse_record

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("ERROR:root:boom", "error"),
        ("2026-11-25 10:00:00,123 - my.app - WARNING - text", "warning"),
        ("2026-11-25 10:00:00,123 CRITICAL text", "critical"),
        ('INFO:     127.0.0.1:5 - "GET / HTTP/1.1" 200 OK', "info"),
        ("\x1b[32mDEBUG\x1b[0m:  text", "debug"),
        ("[2026-11-25 10:00:00,123: WARNING/MainProcess] text", "warning"),
        ("2026/11/25 18:00:00 [error] 12#12: *1 open() failed", "error"),
        ("[Wed Nov 25 18:00:00.1 2026] [core:error] [pid 1] text", "error"),
        ("10:00:00.123 [main] WARN  c.e.App - text", "warning"),
        ("2026-11-25T10:00:00Z\tERROR\tcaller.go:7\ttext", "error"),
        ("10:00AM WRN text", "warning"),
        ("E1125 18:00:00.000000  123 f.go:1] text", "error"),
        ("1234:M 25 Nov 2026 18:00:00.123 # text", "warning"),
        ("2026-11-25 10:00:00.000 UTC [123] FATAL:  text", "critical"),
        ("[2026-11-25T10:00:00Z INFO  app] text", "info"),
        ("error: no such file", "error"),
    ],
)
def test_the_prefixes_of_common_loggers_name_the_level(line: str, level: str) -> None:
    assert level_of(line) == level


@pytest.mark.parametrize(
    "line",
    ["User typed ERROR twice", "an error happened", "Listening on 8080", "", "   ", "no info here", "- -"],
)
def test_a_level_within_a_sentence_is_none(line: str) -> None:
    assert level_of(line) is None


def test_a_json_line_gives_level_message_trace_and_fields() -> None:
    found = parse(
        f'{{"level":50,"msg":"lost","traceId":"{TRACE}","span_id":"b7","req":{{"id":3,"tags":["a"]}}}}'
    )

    assert (found.level, found.text, found.trace) == ("error", "lost", TRACE)
    assert found.fields == {"span_id": "b7", "req.id": 3, "req.tags": '["a"]'}


@pytest.mark.parametrize(
    "line",
    [
        '{"level":',
        "{}",
        "{'a': 1}",
        '{"a"}',
        '{"a":1}x',
        "{" * 5000,
        "[1]",
    ],
)
def test_what_only_looks_like_json_stays_as_it_is(line: str) -> None:
    found = parse(line)

    assert (found.text, found.level, found.fields) == (line, None, {})


def test_a_deep_json_line_is_shown_as_it_is() -> None:
    """Whether its fields are read depends on the depth that this Python allows."""
    line = '{"a":' * 5000 + "1" + "}" * 5000
    found = parse(line)

    assert (found.text, found.level) == (line, None)
    assert len(found.fields) <= MAX_FIELDS


def test_the_last_of_repeated_keys_counts_and_an_empty_trace_is_none() -> None:
    found = parse('{"msg":"a","msg":"b","trace_id":"00000000000000000000000000000000"}')

    assert (found.text, found.trace) == ("b", None)


def test_the_beginning_of_a_json_line_that_was_cut_is_read() -> None:
    whole = (
        '{"level":"error","message":"a \\"b\\"","user":7,"ok":true,"blob":"' + "x" * 1_000_000 + '","z":1}'
    )
    backlog = LineBacklog()
    backlog.feed(whole.encode() + b"\n")
    (cut,) = backlog.take_all()
    assert len(cut) < len(whole)
    found = parse(cut)
    assert (found.level, found.text, found.fields) == ("error", 'a "b"', {"user": 7, "ok": True})
    for other in ("{" * 70_000, '{"a":' * 20_000, '{"' + "\\" * 70_000, '{"a":1,' * 10_000):
        assert parse(other).text == other


def test_logfmt_is_read_where_the_whole_line_is() -> None:
    found = parse(r'time=10:00 level=warn msg="a \"b\"" user=7')

    assert (found.level, found.text, found.fields) == ("warning", 'a "b"', {"time": "10:00", "user": "7"})
    assert parse("sum a=1 b=2").fields == {}
    assert parse("a=1 b=2").fields == {}


def test_fields_are_bounded() -> None:
    many = parse("{" + ",".join(f'"k{n}":"{"x" * 1000}"' for n in range(1000)) + "}")

    assert len(many.fields) == MAX_FIELDS
    assert all(len(str(value)) <= MAX_FIELD + 1 for value in many.fields.values())


def test_the_trace_of_an_instrumented_python_logger_is_found() -> None:
    line = f"2026-11-25 10:00:00,1 INFO [a] [x.py:1] [trace_id={TRACE} span_id=1] - text"

    assert (parse(line).trace, parse(line).level) == (TRACE, "info")


def test_a_traceback_is_an_error_though_it_names_no_level() -> None:
    assert parse_record('Traceback (most recent call last):\n  File "a.py"\nValueError: x').level == "error"
    assert parse_record("TypeError: x is not a function\n    at f (a.js:1:2)").level == "error"
    assert parse_record("some\n  indented text").level is None
    assert parse_record('{"level":"warn","msg":"m"}\n  more').text == "m\n  more"


@given(st.text(max_size=300))
def test_any_line_is_read(line: str) -> None:
    found = parse(line)

    assert found.level in {None, "debug", "info", "warning", "error", "critical"}

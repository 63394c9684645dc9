"""A trace as a waterfall: each span below its parent, with a bar for its time."""

from __future__ import annotations

from msctl.cli.output.traces import span_tree, trace_lines, waterfall
from msctl.cli.output.units import show_latency
from msctl.model.traces import Span, SpanKind, Trace, TraceSummary


def span(
    span_id: str,
    parent: str | None,
    start: float,
    seconds: float,
    *,
    error: bool = False,
    name: str = "GET /",
) -> Span:
    attributes: dict[str, str | int | float | bool] = {"http.response.status_code": 503} if error else {}
    return Span(
        "t", span_id, parent, name, f"svc-{span_id}", SpanKind.SERVER, start, seconds, error, attributes
    )


def test_spans_are_below_their_parents() -> None:
    spans = [
        span("a", None, 0, 10),
        span("b", "a", 1, 2),
        span("c", "b", 1.5, 1),
        span("d", "a", 4, 2),
        span("e", "lost", 5, 1),
    ]
    assert [(s.span_id, depth) for s, depth in span_tree(spans)] == [
        ("a", 0),
        ("b", 1),
        ("c", 2),
        ("d", 1),
        ("e", 0),
    ]


def test_spans_in_a_circle_of_parents_are_shown_once() -> None:
    circle = [span("a", "b", 0, 1), span("b", "a", 0, 1), span("c", None, 0, 1), span("d", "c", 0, 1)]
    assert [(s.span_id, depth) for s, depth in span_tree(circle)] == [("c", 0), ("d", 1), ("a", 0), ("b", 1)]


def test_bar_starts_and_ends_with_its_span() -> None:
    lines = list(
        waterfall(Trace("t", (span("a", None, 100, 1), span("b", "a", 100.5, 0.25))), 80, coloured=False)
    )
    assert lines[0] == "trace t: 1.00 s, 2 spans"
    whole, half = (line.index("━") for line in lines[1:])
    length = lines[1].count("━")
    assert abs((half - whole) - length / 2) <= 1
    assert abs(lines[2].count("━") - length / 4) <= 1
    assert lines[2].startswith("  svc-b: GET /")
    assert lines[2].endswith("250 ms")
    assert max(map(len, lines)) <= 80


def test_a_failed_span_says_why() -> None:
    lines = list(waterfall(Trace("t", (span("a", None, 0, 1, error=True),), dropped=4), 80, coloured=False))
    assert lines[2].strip() == "http.response.status_code = 503"
    assert lines[-1] == "(4 more spans were not kept)"


def test_colour_is_off_by_default() -> None:
    trace = Trace("t", (span("a", None, 0, 1, error=True),))
    assert "\x1b[31m" in "".join(waterfall(trace, 80, coloured=True))
    assert "\x1b" not in "".join(waterfall(trace, 80, coloured=False))


def test_a_name_cannot_move_the_readers_cursor() -> None:
    trace = Trace("t", (span("a", None, 0, 1, name="GET /\x1b[2J"),))
    assert "\x1b" not in "".join(waterfall(trace, 80, coloured=False))


def test_traces_are_a_table() -> None:
    rows = [
        TraceSummary(
            "ab" * 16,
            "GET /u/{id}",
            ("gateway", "users"),
            0.0,
            0.0032,
            3,
            error=False,
            status=200,
            path="/u/7",
        ),
        TraceSummary("cd" * 16, "process q", ("consumer",), 0.0, 1.5, 1, error=True),
    ]
    head, first, second = trace_lines(rows)
    assert head.split() == ["TRACE", "TIME", "TOOK", "STATUS", "SPANS", "REQUEST", "SERVICES"]
    assert first.split()[0] == "ab" * 8
    assert first.endswith("3.2 ms  200     3      GET /u/7   gateway users")
    assert second.split()[2:] == ["1.50", "s", "error", "1", "process", "q", "consumer"]


def test_a_span_shows_the_path_that_its_name_leaves_out_and_the_instance_that_was_asked() -> None:
    def named(span_id: str, kind: SpanKind, **attributes: str) -> str:
        found = {key.replace("_", "."): value for key, value in attributes.items()}
        trace = Trace("t", (Span("t", span_id, None, "GET /x", "a", kind, 0, 1, attributes=found),))
        return list(waterfall(trace, 80, coloured=False))[1].partition("━")[0].strip()

    assert named("a", SpanKind.SERVER, url_path="/x/7", http_route="/x") == "a: GET /x (/x/7)"
    assert named("a", SpanKind.SERVER, url_path="/x", http_route="/x") == "a: GET /x"
    assert named("a", SpanKind.CLIENT, service_peer_instance_id="b-2") == "a: GET /x to b-2"


def test_latencies_have_few_digits() -> None:
    shown = [show_latency(seconds) for seconds in (0.00084, 0.0032, 0.25, 1.254)]
    assert shown == ["840 µs", "3.2 ms", "250 ms", "1.25 s"]

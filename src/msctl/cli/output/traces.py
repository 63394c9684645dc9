"""A list of traces, and one trace as a waterfall."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from msctl.cli.output.table import Column, table
from msctl.cli.output.terminal import CYAN, RED, cells, paint, plain
from msctl.cli.output.units import show_latency
from msctl.model.stack_trace import raised_at
from msctl.model.traces import Span, SpanKind, Trace, TraceSummary

UNLIMITED = 120
"""Columns of a waterfall where standard output is not a terminal."""
NARROWEST = 60
LONGEST_REQUEST = 60
_MIN_LABEL, _MIN_TRACK = 24, 10
_TIME_COLUMNS = 13


def trace_lines(found: Sequence[TraceSummary]) -> Iterator[str]:
    """Show one trace per line, newest first."""
    columns = ("TRACE", "TIME", "TOOK", "STATUS", Column("SPANS", 2), "REQUEST", Column("SERVICES", 1))
    rows = [
        (
            one.trace_id[:16],
            f"{datetime.fromtimestamp(one.start).astimezone():%H:%M:%S.%f}"[:-3],
            show_latency(one.duration_s),
            (_status(one), RED) if one.error else _status(one),
            str(one.spans),
            (_request(one), RED) if one.error else _request(one),
            " ".join(one.services),
        )
        for one in found
    ]
    return table(columns, rows)


def _request(one: TraceSummary) -> str:
    """The method and the path, of which the name has the route alone; another name as it is."""
    request = f"{one.name.partition(' ')[0]} {one.path}" if one.path else one.name
    return request if len(request) <= LONGEST_REQUEST else f"{request[: LONGEST_REQUEST - 1]}…"


def _status(one: TraceSummary) -> str:
    if one.error:
        return "error" if one.status is None else f"{one.status}!"
    return str(one.status or "ok")


def waterfall(trace: Trace, width: int | None, *, coloured: bool) -> Iterator[str]:
    """Show one span per line, below its parent, with a bar for the time it took."""
    width = UNLIMITED if width is None else max(NARROWEST, width)
    begin = min(span.start for span in trace.spans)
    whole = max(max(span.start + span.duration_s for span in trace.spans) - begin, 1e-9)
    yield f"trace {trace.trace_id}: {show_latency(whole)}, {len(trace.spans)} spans"
    rows = [
        ("  " * depth + plain(f"{span.service}: {_title(span)}"), span)
        for span, depth in span_tree(trace.spans)
    ]
    label = min(max(cells(text) for text, _ in rows), max(_MIN_LABEL, width // 2))
    track = max(_MIN_TRACK, width - label - _TIME_COLUMNS)
    for text, span in rows:
        before = min(int((span.start - begin) / whole * track), track - 1)
        length = max(1, min(round(span.duration_s / whole * track), track - before))
        bar = " " * before + _paint("━" * length, RED if span.error else CYAN, coloured)
        shown = text if cells(text) <= label else text[: label - 1] + "…"
        name = _paint(shown + " " * (label - cells(shown)), RED if span.error else 0, coloured)
        yield f"{name}  {bar}{' ' * (track - before - length)} {show_latency(span.duration_s):>9}"
        for problem in _problems(span):
            yield _paint(" " * (len(text) - len(text.lstrip()) + 2) + problem, RED, coloured)
    if trace.dropped:
        yield f"({trace.dropped} more spans were not kept)"


def _title(span: Span) -> str:
    """The name, with the path that its route stands for, or the instance that was asked."""
    path, peer = span.attributes.get("url.path"), span.attributes.get("service.peer.instance.id")
    if span.kind is SpanKind.CLIENT and peer:
        return f"{span.name} to {peer}"
    if span.kind is SpanKind.SERVER and path and path != span.attributes.get("http.route"):
        return f"{span.name} ({path})"
    return span.name


def span_tree(spans: Sequence[Span]) -> Iterator[tuple[Span, int]]:
    """Yield the spans depth first, each with its depth; a span without a known parent is a root.

    Other programs can send spans that are each other's parent: the first one of such a circle is a root.
    """
    known = {span.span_id for span in spans}
    children: dict[str | None, list[Span]] = {}
    for span in spans:
        children.setdefault(span.parent_id if span.parent_id in known else None, []).append(span)
    parent: str | None = None
    while children:
        pending = [(span, 0) for span in reversed(children.pop(parent, []))]
        while pending:
            span, depth = pending.pop()
            yield span, depth
            pending += [(child, depth + 1) for child in reversed(children.pop(span.span_id, []))]
        parent = next(iter(children), None)


def _problems(span: Span) -> Iterator[str]:
    if span.error:
        for name in ("http.response.status_code", "error.type"):
            if name in span.attributes:
                yield plain(f"{name} = {span.attributes[name]}")
    raised = [event for event in span.events if event.name == "exception"]
    for event in raised:
        kind, text = event.attributes.get("exception.type"), event.attributes.get("exception.message")
        yield plain(": ".join(str(part) for part in (kind, text) if part))
        if place := raised_at(str(event.attributes.get("exception.stacktrace", ""))):
            yield plain(f"  raised at {place}")
    if span.error and span.message and not raised:
        yield plain(span.message)


def _paint(text: str, colour: int, coloured: bool) -> str:
    return paint(text, colour) if coloured and colour else text

"""`traces`: the last requests, and one of them as a waterfall."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from shutil import get_terminal_size
from typing import Annotated

import typer

from msctl.cli.options.durations import parse_duration
from msctl.cli.output.documents import write_document
from msctl.cli.output.terminal import colours, printable
from msctl.cli.session import Settings
from msctl.errors import UsageError
from msctl.model.snapshots import Span, Trace, TraceQuery, TraceSummary

RED, DIM, CYAN = 31, 2, 36
NARROWEST = 60
UNLIMITED = 120
"""Columns where there is no terminal."""


def traces(
    ctx: typer.Context,
    trace: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A trace, by its id or the beginning of it.")
    ] = None,
    service: Annotated[
        list[str] | None,
        typer.Option("--service", "-s", envvar="MSCTL_TRACES_SERVICE", help="Only those that touched it."),
    ] = None,
    errors: Annotated[
        bool, typer.Option("--errors", "-e", envvar="MSCTL_TRACES_ERRORS", help="Only those that failed.")
    ] = False,
    slower_than: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_TRACES_SLOWER_THAN", metavar="DURATION", help="Only those that took longer (250ms)."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", envvar="MSCTL_TRACES_LIMIT", metavar="N", help="How many.")
    ] = 20,
    as_json: Annotated[bool, typer.Option("--json", envvar="MSCTL_TRACES_JSON", help="As JSON.")] = False,
) -> None:
    """Show the last requests, or where the time of one of them went."""
    settings: Settings = ctx.obj
    if limit < 1:
        raise UsageError(f"--limit: {limit} traces cannot be shown", hint="give a number from 1 up")
    client = settings.client()
    if trace is not None:
        found = client.trace(trace)
        if as_json:
            write_document("trace", found)
        else:
            _write(waterfall(found, _width(), coloured=colours(sys.stdout)))
        return
    least = 0.0 if slower_than is None else parse_duration(slower_than, "--slower-than")
    query = TraceQuery(tuple(service or ()), errors=errors, min_duration_s=least, limit=limit)
    listed = client.traces(query)
    if as_json:
        write_document("traces", listed)
    elif listed:
        _write(table(listed, coloured=colours(sys.stdout)))
    else:
        sys.stderr.write("no trace fits; send a request through the gateway, and it is listed here\n")


def table(found: Sequence[TraceSummary], *, coloured: bool) -> Iterator[str]:
    """The traces, newest first, one a line."""
    rows = [
        (
            one.trace_id[:16],
            f"{datetime.fromtimestamp(one.start).astimezone():%H:%M:%S.%f}"[:-3],
            show_time(one.duration_s),
            ("error" if one.status is None else f"{one.status}!") if one.error else str(one.status or "ok"),
            str(one.spans),
            printable(one.name),
            " ".join(one.services),
        )
        for one in found
    ]
    names = ("TRACE", "TIME", "TOOK", "STATUS", "SPANS", "REQUEST", "SERVICES")
    widths = [max(len(row[i]) for row in (names, *rows)) for i in range(len(names))]
    yield _paint(_line(names, widths), 1, coloured)
    for row, one in zip(rows, found, strict=True):
        yield _paint(_line(row, widths), RED if one.error else 0, coloured)


def waterfall(trace: Trace, width: int, *, coloured: bool) -> Iterator[str]:
    """A line for each span, below the one that caused it, with a bar for when it ran."""
    begin = min(span.start for span in trace.spans)
    whole = max(max(span.start + span.duration_s for span in trace.spans) - begin, 1e-9)
    yield f"trace {trace.trace_id}: {show_time(whole)}, {len(trace.spans)} spans"
    rows = [
        ("  " * depth + f"{span.service}: {printable(span.name)}", span) for span, depth in tree(trace.spans)
    ]
    label = min(max(len(text) for text, _ in rows), max(24, width // 2))
    track = max(10, width - label - 13)
    for text, span in rows:
        before = min(int((span.start - begin) / whole * track), track - 1)
        length = max(1, min(round(span.duration_s / whole * track), track - before))
        bar = " " * before + _paint("━" * length, RED if span.error else CYAN, coloured)
        shown = text if len(text) <= label else text[: label - 1] + "…"
        name = _paint(f"{shown:<{label}}", RED if span.error else 0, coloured)
        yield f"{name}  {bar}{' ' * (track - before - length)} {show_time(span.duration_s):>9}"
        for problem in _problems(span):
            yield _paint(" " * (len(text) - len(text.lstrip()) + 2) + problem, RED, coloured)
    if trace.dropped:
        yield f"({trace.dropped} more spans were not kept)"


def tree(spans: Sequence[Span]) -> Iterator[tuple[Span, int]]:
    """The spans depth first, each with its depth; one whose cause is not kept stands at the top.

    So does one of those that name each other as their cause, which programs other than msctl can send.
    """
    known = {span.span_id for span in spans}
    below: dict[str | None, list[Span]] = {}
    for span in spans:
        below.setdefault(span.parent_id if span.parent_id in known else None, []).append(span)
    top: str | None = None
    while below:
        waiting = [(span, 0) for span in reversed(below.pop(top, []))]
        while waiting:
            span, depth = waiting.pop()
            yield span, depth
            waiting += [(child, depth + 1) for child in reversed(below.pop(span.span_id, []))]
        top = next(iter(below), None)


def show_time(seconds: float) -> str:
    """In the unit that leaves few digits: `840 µs`, `3.2 ms`, `1.25 s`."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1000:.{1 if seconds < 0.1 else 0}f} ms"
    return f"{seconds:.2f} s"


def _problems(span: Span) -> Iterator[str]:
    if span.error:
        for name in ("http.response.status_code", "error.type"):
            if name in span.attributes:
                yield f"{name} = {span.attributes[name]}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def _paint(text: str, code: int, coloured: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if coloured and code else text


def _width() -> int:
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return UNLIMITED
    return max(NARROWEST, get_terminal_size().columns)


def _write(lines: Iterator[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)

"""The list of a project's runs, and two runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from msctl.cli.output.table import Cell, Column, table
from msctl.cli.output.terminal import RED, plain
from msctl.cli.output.units import show_duration, show_latency
from msctl.model.runs import RouteChange, RouteStats, RunComparison, RunSummary

MAX_NAMES = 20
"""Names of traces shown; more are counted."""


def run_lines(found: Sequence[RunSummary], running: str | None) -> Iterator[str]:
    """Show one run a line, newest first; `running` is the run of the stack that runs now."""
    columns = (Column("#", 3), "RUN", "BEGAN", "LASTED", "REQUESTS", "ERRORS", Column("TRACES", 1))
    rows = [
        (
            str(number),
            one.run,
            f"{datetime.fromtimestamp(one.began).astimezone():%Y-%m-%d %H:%M:%S}",
            _lasted(one, running),
            str(one.requests),
            (str(one.errors), RED) if one.errors else "0",
            str(one.traces),
        )
        for number, one in enumerate(found, 1)
    ]
    return table(columns, rows)


def _lasted(one: RunSummary, running: str | None) -> str:
    if one.ended is not None:
        return show_duration(one.lasted_s)
    return "running" if one.run == running else "killed"


def comparison_lines(found: RunComparison) -> Iterator[str]:
    """Show each route of two runs in a line, then the traces that only the later one has."""
    yield f"{found.before.run} -> {found.after.run}"
    yield ""
    if found.routes:
        columns = (
            "ROUTE",
            "REQUESTS",
            Column("RATE", 2),
            "ERRORS",
            Column("P50", 3),
            "P95",
            Column("P99", 1),
        )
        yield from table(columns, [_row(found, change) for change in found.routes])
    else:
        yield "neither run answered a request"
    for title, names in (("new traces", found.new_traces), ("fail now", found.new_failures)):
        if names:
            yield ""
            yield f"{title}:"
            yield from (f"  {plain(name)}" for name in names[:MAX_NAMES])
            if len(names) > MAX_NAMES:
                yield f"  and {len(names) - MAX_NAMES} more"


def _row(found: RunComparison, change: RouteChange) -> list[Cell]:
    one = change.after or change.before
    if one is None:
        raise ValueError("a route of neither run")
    before, after = change.before, change.after
    worse = _share(after) > _share(before)
    errors = _pair(before, after, _errors)
    rates = (_rate(before, found.before), _rate(after, found.after))
    return [
        f"{one.service}: {one.method} {one.route or '(no route)'}",
        _pair(before, after, lambda stats: str(stats.requests)),
        " -> ".join(rates),
        (errors, RED) if worse else errors,
        _pair(before, after, lambda stats: show_latency(stats.p50_s)),
        _pair(before, after, lambda stats: show_latency(stats.p95_s)),
        _pair(before, after, lambda stats: show_latency(stats.p99_s)),
    ]


def _errors(stats: RouteStats) -> str:
    return f"{stats.errors} ({_share(stats):.0%})" if stats.errors else "0"


def _rate(stats: RouteStats | None, run: RunSummary) -> str:
    """Requests a second over the whole run; "-" for none, and for a run of no length."""
    if stats is None or not run.lasted_s:
        return "-"
    rate = stats.requests / run.lasted_s
    return f"{rate:.0f}/s" if rate >= 10 else f"{rate:.2g}/s"


def _share(stats: RouteStats | None) -> float:
    return 0.0 if stats is None or not stats.requests else stats.errors / stats.requests


def _pair(before: RouteStats | None, after: RouteStats | None, show: Callable[[RouteStats], str]) -> str:
    return f"{'-' if before is None else show(before)} -> {'-' if after is None else show(after)}"

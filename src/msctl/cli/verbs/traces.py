"""`traces`: the last requests, and one of them as a waterfall."""

from __future__ import annotations

import sys
from typing import Annotated, Protocol

import typer

from msctl.cli.options.durations import parse_duration
from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.options.json_output import json_option
from msctl.cli.options.run_option import RunOption, database_of
from msctl.cli.output.result import Result
from msctl.cli.output.terminal import colours, terminal_width
from msctl.errors import UsageError
from msctl.model.traces import Trace, TraceQuery, TraceSummary


def traces(
    ctx: typer.Context,
    trace: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A trace's id, or its first characters.")
    ] = None,
    service: Annotated[
        list[str] | None,
        typer.Option(
            "--service",
            "-s",
            envvar="MSCTL_TRACES_SERVICE",
            metavar="NAME",
            help="Only traces of this service; repeatable.",
        ),
    ] = None,
    errors: Annotated[
        bool, typer.Option("--errors", "-e", envvar="MSCTL_TRACES_ERRORS", help="Only failed requests.")
    ] = False,
    slower_than: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_TRACES_SLOWER_THAN", metavar="DURATION", help="Only slower requests (250ms)."
        ),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_TRACES_STATUS", metavar="STATUS", help="Only this status, or class (404, 5xx)."
        ),
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_TRACES_GREP",
            metavar="TEXT",
            help="Only traces with this text in a name, attribute or event; KEY=VALUE is an attribute.",
        ),
    ] = None,
    limit: Annotated[
        int,
        typer.Option("--limit", "-n", envvar="MSCTL_TRACES_LIMIT", metavar="N", help="Maximum number."),
    ] = 20,
    run: RunOption = None,
    as_json: Annotated[bool, json_option("traces")] = False,
) -> Result:
    """List the last requests, or show one as a waterfall.

    \b
    Examples:
      msctl traces --errors
      msctl traces --slower-than 250ms -s orders
      msctl traces 4bf92f35
    """
    from msctl.cli.output.traces import trace_lines, waterfall

    options: GlobalOptions = ctx.obj
    if limit < 1:
        raise UsageError(f"--limit must be 1 or more, not {limit}")
    view: _Traces = options.client() if run is None else _KeptTraces(options, run)
    if trace is not None:
        found = view.trace(trace)
        return Result(
            "trace",
            found,
            lambda: waterfall(found, terminal_width(), coloured=colours(sys.stdout)),
            as_json=as_json,
        )
    fastest = 0.0 if slower_than is None else parse_duration(slower_than, "--slower-than")
    query = TraceQuery(
        tuple(service or ()),
        errors=errors,
        min_duration_s=fastest,
        limit=limit,
        status=status or "",
        text=grep or "",
    )
    listed = view.traces(query)
    if not listed and not as_json:
        return Result("traces", listed, problems=("no traces; send a request through the gateway",))
    return Result("traces", listed, lambda: trace_lines(listed), as_json=as_json)


class _Traces(Protocol):
    def trace(self, trace_id: str) -> Trace: ...

    def traces(self, query: TraceQuery) -> tuple[TraceSummary, ...]: ...


class _KeptTraces:
    """The traces of an earlier run."""

    def __init__(self, options: GlobalOptions, named: str) -> None:
        self._path = database_of(options)
        self._named = named

    def trace(self, trace_id: str) -> Trace:
        from msctl.telemetry.runs import database

        with database.reading(self._path) as connection:
            return database.trace(connection, database.find(connection, self._named).run, trace_id)

    def traces(self, query: TraceQuery) -> tuple[TraceSummary, ...]:
        from msctl.telemetry.runs import database

        with database.reading(self._path) as connection:
            run = database.find(connection, self._named).run
            return tuple(database.traces(connection, run, query))

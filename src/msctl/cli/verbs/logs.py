"""`logs`: log lines of the running stack, or of its last run."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from msctl.cli.options.completion import AnyServices
from msctl.cli.options.durations import parse_moment
from msctl.cli.options.json_output import json_option
from msctl.cli.options.run_option import RunOption, run_name_of
from msctl.cli.output.log_lines import LogFormatter
from msctl.cli.output.result import write_record
from msctl.cli.output.terminal import colours
from msctl.errors import NotRunningError, UsageError
from msctl.model.events import LogLine, LogQuery

if TYPE_CHECKING:
    from pathlib import Path

    from msctl.cli.options.global_options import GlobalOptions
    from msctl.control.client import ControlClient


KEPT_LINES = 2000
"""Lines of each service that a running stack has in memory; its files reach further."""


class Level(StrEnum):
    """Levels of log lines, from the least to the most severe."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Stream(StrEnum):
    """What a service prints to."""

    STDOUT = "stdout"
    STDERR = "stderr"


def logs(
    ctx: typer.Context,
    services: AnyServices = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", envvar="MSCTL_LOGS_FOLLOW", help="Print new lines until Ctrl-C.")
    ] = False,
    tail: Annotated[
        int | None,
        typer.Option("--tail", "-n", envvar="MSCTL_LOGS_TAIL", metavar="N", help="Only the last N lines."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            envvar="MSCTL_LOGS_SINCE",
            metavar="WHEN",
            help="Only lines newer than this: 10s, 5m, 2h, or a time such as 14:30 or 2026-11-25T14:30:00Z.",
        ),
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option(
            "--grep", envvar="MSCTL_LOGS_GREP", metavar="REGEX", help="Only lines that match this expression."
        ),
    ] = None,
    level: Annotated[
        Level | None,
        typer.Option("--level", envvar="MSCTL_LOGS_LEVEL", help="Only this level and worse."),
    ] = None,
    stream: Annotated[
        Stream | None,
        typer.Option("--stream", envvar="MSCTL_LOGS_STREAM", help="Only what was printed to this stream."),
    ] = None,
    timestamps: Annotated[
        bool,
        typer.Option(
            "--timestamps", "-t", envvar="MSCTL_LOGS_TIMESTAMPS", help="Begin each line with its time."
        ),
    ] = False,
    run: RunOption = None,
    as_json: Annotated[bool, json_option("logs", "Print one JSON document per line.")] = False,
) -> None:
    """Print the services' log lines; those of the last run if no stack is running.

    \b
    Examples:
      msctl logs -f
      msctl logs users --since 5m --grep 'error|warn'
    """
    start = None if since is None else parse_moment(since, "--since")
    if tail is not None and tail < 0:
        raise UsageError(f"--tail must be 0 or more, not {tail}")
    query = LogQuery(tuple(services or ()), tail, follow, since=start, stream=stream or "", level=level or "")
    pattern = None if grep is None else _pattern(grep)
    if run is None:
        names, lines = _lines(ctx.obj, query, pattern)
    elif follow:
        raise UsageError("--follow has no effect on an earlier run")
    else:
        names, lines = _lines_of_run(ctx.obj, run, query, pattern)
    formatter = LogFormatter(names, coloured=colours(sys.stdout), timestamps=timestamps)
    try:
        for line in lines:
            if as_json:
                write_record("log", line)
            else:
                sys.stdout.write(f"{formatter.format(line)}\n")
                sys.stdout.flush()
    except KeyboardInterrupt:
        return


def _pattern(expression: str) -> re.Pattern[str]:
    """Compile the expression. It runs in this process: one that takes hours must not stop the stack."""
    try:
        return re.compile(expression)
    except re.error as error:
        raise UsageError(f"--grep: {expression!r} is not a valid regular expression: {error}") from None


def _lines(
    options: GlobalOptions, query: LogQuery, pattern: re.Pattern[str] | None
) -> tuple[list[str], Iterable[LogLine]]:
    """The names of the services, and their lines: from the running stack, else from the last run's files."""
    client = options.client()
    try:
        snapshot = client.snapshot()
    except NotRunningError:
        found = _last_run(options, query, pattern)
        if found is None:
            raise
        return found
    names = [service.name for service in snapshot.services]
    if query.tail is not None and pattern is None and query.tail <= KEPT_LINES:
        return names, client.logs(query)
    return names, _from_stack_and_files(client, options, snapshot.pid, query, pattern)


def _from_stack_and_files(
    client: ControlClient,
    options: GlobalOptions,
    pid: int,
    query: LogQuery,
    pattern: re.Pattern[str] | None,
) -> Iterator[LogLine]:
    """The lines that match, the older ones from the run's files; of which `tail` counts the last; then new
    ones with `follow`."""
    from msctl.telemetry.logs.hub import matching

    wanted = matching(query)

    def matches(line: LogLine) -> bool:
        return wanted(line) and (pattern is None or pattern.search(line.text) is not None)

    kept = list(client.logs(LogQuery(query.services)))
    found = [line for line in kept if matches(line)]
    if query.tail is None or len(found) < query.tail:
        found = [*filter(matches, _older(options, pid, query.services, kept)), *found]
    yield from found if query.tail is None else found[max(0, len(found) - query.tail) :]
    if query.follow:
        last = kept[-1].seq if kept else 0
        for line in client.logs(replace(query, tail=None)):
            if line.seq > last and matches(line):
                yield line


def _older(
    options: GlobalOptions, pid: int, services: Sequence[str], kept: Sequence[LogLine]
) -> list[LogLine]:
    """The lines of the running stack that only its files still have; it knows the services already."""
    from fnmatch import fnmatchcase

    from msctl.control.runs import last_run, runs_folder
    from msctl.telemetry.logs.older import older_lines
    from msctl.telemetry.logs.run_files import read_run, services_of

    run = last_run(runs_folder(options.identify()[1], os.environ))
    if run is None or not run.name.endswith(f"-{pid}"):
        return []
    # A service that has not said anything has no file yet.
    written = [name for name in services_of(run) if any(fnmatchcase(name, one) for one in services)]
    if services and not written:
        return []
    return older_lines(kept, list(read_run(run, tuple(written))))


def _last_run(
    options: GlobalOptions, query: LogQuery, pattern: re.Pattern[str] | None
) -> tuple[list[str], Iterable[LogLine]] | None:
    from msctl.control.runs import last_run, runs_folder

    name, paths = options.identify()
    run = last_run(runs_folder(paths, os.environ))
    if run is None:
        return None
    found = _lines_in(run, query, pattern)
    sys.stderr.write(f"project {name!r} is not running; these lines are from its last run\n")
    return found


def _lines_of_run(
    options: GlobalOptions, named: str, query: LogQuery, pattern: re.Pattern[str] | None
) -> tuple[list[str], Iterable[LogLine]]:
    from msctl.control.runs import run_named, runs_folder

    run = run_name_of(options, named)
    folder = run_named(runs_folder(options.identify()[1], os.environ), run)
    return ([], ()) if folder is None else _lines_in(folder, query, pattern)


def _lines_in(
    run: Path, query: LogQuery, pattern: re.Pattern[str] | None
) -> tuple[list[str], Iterable[LogLine]]:
    """The services of a run whose files are in this folder, and their lines."""
    from msctl.model.service_names import select
    from msctl.telemetry.logs.hub import matching
    from msctl.telemetry.logs.run_files import read_run, services_of

    names = services_of(run)
    services = tuple(select(query.services, names)) if query.services else ()
    matches = matching(query)
    lines = [
        line
        for line in read_run(run, services)
        if matches(line) and (pattern is None or pattern.search(line.text))
    ]
    return names, lines if query.tail is None else lines[max(0, len(lines) - query.tail) :]

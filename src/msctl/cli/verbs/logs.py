"""`logs`: log lines of the running stack."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from msctl.cli.options.completion import AnyServices
from msctl.cli.options.durations import parse_duration
from msctl.cli.options.json_output import json_option
from msctl.cli.output.log_lines import LogFormatter
from msctl.cli.output.result import write_record
from msctl.cli.output.terminal import colours
from msctl.errors import UsageError
from msctl.model.events import LogQuery


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
            metavar="DURATION",
            help="Only lines newer than this (10s, 5m, 2h).",
        ),
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option(
            "--grep", envvar="MSCTL_LOGS_GREP", metavar="REGEX", help="Only lines that match this expression."
        ),
    ] = None,
    as_json: Annotated[bool, json_option("logs", "Print one JSON document per line.")] = False,
) -> None:
    """Print the services' log lines.

    \b
    Examples:
      msctl logs -f
      msctl logs users --since 5m --grep 'error|warn'
    """
    start = None if since is None else time.time() - parse_duration(since, "--since")
    if tail is not None and tail < 0:
        raise UsageError(f"--tail must be 0 or more, not {tail}")
    client = ctx.obj.client()
    names = [service.name for service in client.snapshot().services]
    formatter = LogFormatter(names, coloured=colours(sys.stdout))
    query = LogQuery(tuple(services or ()), tail, follow, since=start, grep=grep)
    try:
        for line in client.logs(query):
            if as_json:
                write_record("log", line)
            else:
                sys.stdout.write(f"{formatter.format(line)}\n")
                sys.stdout.flush()
    except KeyboardInterrupt:
        return

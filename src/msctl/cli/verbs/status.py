"""`status` and `logs`: what a running stack does, and what it says."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from msctl.cli.options.completion import ServiceNames
from msctl.cli.options.durations import parse_duration
from msctl.cli.output.documents import write_document, write_record
from msctl.cli.output.render import LinePrinter, only, print_status
from msctl.errors import UsageError
from msctl.model.snapshots import LogQuery


def status(
    ctx: typer.Context,
    services: ServiceNames = None,
    as_json: Annotated[bool, typer.Option("--json", envvar="MSCTL_STATUS_JSON", help="As JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", envvar="MSCTL_STATUS_QUIET", help="Only the services' names.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", envvar="MSCTL_STATUS_WATCH", help="Keep it up to date until Ctrl-C."),
    ] = False,
    instances: Annotated[
        bool,
        typer.Option(
            "--instances",
            "-i",
            envvar="MSCTL_STATUS_INSTANCES",
            help="Show each instance too: its breaker, requests in flight, connections.",
        ),
    ] = False,
) -> None:
    """Show every service, where it answers, and the broker. Exit code 3 if no stack is running.

    Of services that are named, only those are shown, with their instances.
    """
    client = ctx.obj.client()
    names = services or []
    if watch:
        from msctl.cli.output.status_live import watch_status

        watch_status(client, names, instances=instances)
        return
    snapshot = client.snapshot()
    if names:
        snapshot = only(snapshot, names)
    if as_json:
        write_document("status", snapshot)
    elif quiet:
        sys.stdout.writelines(f"{service.name}\n" for service in snapshot.services)
    else:
        print_status(snapshot, broker=not names, instances=instances or bool(names))


def logs(
    ctx: typer.Context,
    services: ServiceNames = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", envvar="MSCTL_LOGS_FOLLOW", help="Show new lines as they come.")
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
            help="Only lines of the last 10s, 5m, 2h.",
        ),
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option(
            "--grep", envvar="MSCTL_LOGS_GREP", metavar="REGEX", help="Only lines in which this is found."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", envvar="MSCTL_LOGS_JSON", help="One JSON document a line.")
    ] = False,
) -> None:
    """Show what services have written (Ctrl-C ends --follow)."""
    start = None if since is None else time.time() - parse_duration(since, "--since")
    if tail is not None and tail < 0:
        raise UsageError(f"--tail: {tail} lines cannot be shown", hint="give a number from 0 up")
    client = ctx.obj.client()
    printer = LinePrinter([service.name for service in client.snapshot().services])
    query = LogQuery(tuple(services or ()), tail, follow, since=start, grep=grep)
    try:
        for line in client.logs(query):
            if as_json:
                write_record("log", line)
            else:
                printer.print(line)
    except KeyboardInterrupt:
        return

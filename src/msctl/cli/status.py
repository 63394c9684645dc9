"""`status` and `logs`: what a running stack does, and what it says."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from msctl.cli.render import LinePrinter, print_status, write_document
from msctl.errors import UsageError
from msctl.model import LogQuery


def status(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", envvar="MSCTL_STATUS_JSON", help="As JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", envvar="MSCTL_STATUS_QUIET", help="Only the services' names.")
    ] = False,
) -> None:
    """Show every service, where it answers, and the broker. Exit code 3 if no stack is running."""
    snapshot = ctx.obj.client().snapshot()
    if as_json:
        write_document("status", snapshot)
    elif quiet:
        sys.stdout.writelines(f"{service.name}\n" for service in snapshot.services)
    else:
        print_status(snapshot)


def logs(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Names or globs. Default: all.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", envvar="MSCTL_LOGS_FOLLOW", help="Show new lines as they come.")
    ] = False,
    tail: Annotated[
        int | None,
        typer.Option("--tail", "-n", envvar="MSCTL_LOGS_TAIL", metavar="N", help="Only the last N lines."),
    ] = None,
) -> None:
    """Show what services have written (Ctrl-C ends --follow)."""
    if tail is not None and tail < 0:
        raise UsageError(f"--tail: {tail} lines cannot be shown", hint="give a number from 0 up")
    client = ctx.obj.client()
    printer = LinePrinter([service.name for service in client.snapshot().services])
    try:
        for line in client.logs(LogQuery(tuple(services or ()), tail, follow)):
            printer.print(line)
    except KeyboardInterrupt:
        return

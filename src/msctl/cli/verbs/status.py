"""`status`: the services and the broker of the running stack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from msctl.cli.options.completion import AnyServices
from msctl.cli.options.json_output import json_option
from msctl.cli.outcome import select_services
from msctl.cli.output.result import Result
from msctl.cli.output.status_table import status_lines
from msctl.errors import NotRunningError


def status(
    ctx: typer.Context,
    services: AnyServices = None,
    as_json: Annotated[bool, json_option("status")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", envvar="MSCTL_STATUS_QUIET", help="Print service names only.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", envvar="MSCTL_STATUS_WATCH", help="Update every second until Ctrl-C."),
    ] = False,
    instances: Annotated[
        bool,
        typer.Option(
            "--instances",
            "-i",
            envvar="MSCTL_STATUS_INSTANCES",
            help="Also show each instance: breaker, requests in flight, connections.",
        ),
    ] = False,
) -> Result | None:
    """Show the services and the broker.

    With SERVICE, show only those services, with their instances. Exit code 3 if no stack is running.

    \b
    Examples:
      msctl status
      msctl status --watch
      msctl status 'user*' --json
    """
    client = ctx.obj.client()
    names = services or []
    instances = instances or bool(names)

    def lines() -> Iterator[str]:
        snapshot = client.snapshot()
        if names:
            snapshot = select_services(snapshot, names)
        return status_lines(snapshot, recent=True, broker=not names, instances=instances)

    if watch:
        from msctl.cli.output.status_live import redraw

        try:
            redraw(lines)
        except NotRunningError as error:
            raise NotRunningError("the stack has stopped", hint="start it with: msctl up") from error
        return None
    snapshot = client.snapshot()
    if names:
        snapshot = select_services(snapshot, names)
    if quiet:
        return Result("status", snapshot, lambda: [service.name for service in snapshot.services])
    return Result(
        "status",
        snapshot,
        lambda: status_lines(snapshot, broker=not names, instances=instances),
        as_json=as_json,
    )

"""`scale`: change the number of a service's instances."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.options.json_output import json_option
from msctl.cli.outcome import services_result
from msctl.cli.output.result import Result
from msctl.cli.output.show_waiting import showing_waiting
from msctl.errors import UsageError
from msctl.model.services import check_count

_MAX_DIGITS = 9
"""Longer numbers are beyond every limit, and slow to parse."""


def scale(
    ctx: typer.Context,
    counts: Annotated[list[str], typer.Argument(metavar="SERVICE=N...", help="The number of instances.")],
    as_json: Annotated[bool, json_option("scale")] = False,
) -> Result:
    """Set the number of instances of services that run as processes.

    The gateway balances requests over them.

    \b
    Example:
      msctl scale users=3
    """
    wanted: dict[str, int] = {}
    for text in counts:
        name, _, number = text.partition("=")
        if not name or not number.isdecimal() or len(number) > _MAX_DIGITS:
            raise UsageError(f"{text!r} is not of the form SERVICE=N", hint="example: msctl scale users=3")
        check_count(name, int(number))
        wanted[name] = int(number)
    client = ctx.obj.client()
    with showing_waiting(client):
        snapshot = client.scale(wanted)
    return services_result(snapshot, list(wanted), client, as_json=as_json)

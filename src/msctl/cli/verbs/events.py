"""`events`: changes of the services' states."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from msctl.cli.options.json_output import json_option
from msctl.cli.output.result import write_record
from msctl.cli.output.service_lines import event_line


def events(
    ctx: typer.Context,
    as_json: Annotated[bool, json_option("events", "Print one JSON document per line.")] = False,
) -> None:
    """Print each service's state, then every change until Ctrl-C."""
    try:
        for event in ctx.obj.client().events():
            if as_json:
                write_record("event", event)
            else:
                sys.stdout.write(f"{event_line(event)}\n")
                sys.stdout.flush()
    except KeyboardInterrupt:
        return

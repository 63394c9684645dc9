"""`start`: start services of the running stack."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.options.completion import AnyServices
from msctl.cli.options.json_output import json_option
from msctl.cli.outcome import services_result
from msctl.cli.output.result import Result
from msctl.cli.output.show_waiting import showing_waiting


def start(
    ctx: typer.Context,
    services: AnyServices = None,
    no_deps: Annotated[bool, typer.Option("--no-deps", help="Do not start their dependencies.")] = False,
    as_json: Annotated[bool, json_option("start")] = False,
) -> Result:
    """Start services and their dependencies, and wait until they are ready."""
    names = services or []
    client = ctx.obj.client()
    with showing_waiting(client):
        snapshot = client.start(names, deps=not no_deps)
    return services_result(snapshot, names, client, as_json=as_json)

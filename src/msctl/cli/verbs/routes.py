"""`routes`: the gateway's routes."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.options.json_output import json_option
from msctl.cli.output.result import Result


def routes(
    ctx: typer.Context,
    as_json: Annotated[bool, json_option("routes")] = False,
) -> Result:
    """List the gateway's routes, in matching order."""
    from msctl.cli.output.listings import route_lines

    options: GlobalOptions = ctx.obj
    client = options.client()
    found = client.routes()
    services = () if as_json else client.snapshot().services
    return Result("routes", found, lambda: route_lines(found, services), as_json=as_json)

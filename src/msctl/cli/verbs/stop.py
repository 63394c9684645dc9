"""`stop`: stop services of the running stack."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.options.completion import AnyServices
from msctl.cli.options.json_output import json_option
from msctl.cli.outcome import stopped_result
from msctl.cli.output.result import Result


def stop(
    ctx: typer.Context,
    services: AnyServices = None,
    as_json: Annotated[bool, json_option("stop")] = False,
) -> Result:
    """Stop services; the gateway answers 503 for them."""
    names = services or []
    return stopped_result(ctx.obj.client().stop(names), names, as_json=as_json)

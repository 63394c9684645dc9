"""`stop`: stop services of the running stack."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.options.completion import AnyServices
from msctl.cli.options.json_output import json_option
from msctl.cli.outcome import stopped_result
from msctl.cli.output.result import Result
from msctl.cli.output.show_waiting import showing_waiting
from msctl.cli.output.waiting import STOPPING


def stop(
    ctx: typer.Context,
    services: AnyServices = None,
    as_json: Annotated[bool, json_option("stop")] = False,
) -> Result:
    """Stop services; the gateway answers 503 for them."""
    names = services or []
    client = ctx.obj.client()
    with showing_waiting(client, states=STOPPING):
        snapshot = client.stop(names)
    return stopped_result(snapshot, names, as_json=as_json)

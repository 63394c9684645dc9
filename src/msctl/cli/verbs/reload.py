"""`reload`: apply an edited project to the running stack."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.options.json_output import json_option
from msctl.cli.outcome import reload_problems
from msctl.cli.output.result import Result
from msctl.cli.output.show_waiting import showing_waiting
from msctl.errors import ExitCode


def reload(
    ctx: typer.Context,
    as_json: Annotated[bool, json_option("reload")] = False,
) -> Result:
    """Apply edits of msctl.toml and sources; restart only what changed.

    If the file has an error, nothing changes (exit code 2). A new instance replaces the old one once it
    is ready; if it does not become ready, the old one stays (exit code 1). A program with a fixed port is
    stopped first, and started again as it was if the new one fails. Changes of [broker] need `msctl down`
    and `msctl up`.
    """
    client = ctx.obj.client()
    with showing_waiting(client):
        result = client.reload()
    return Result(
        "reload",
        result,
        lambda: result.done() or ([] if result.failed else ["nothing has changed"]),
        problems=tuple(reload_problems(result, client)),
        exit_code=ExitCode.FAILED if result.failed else ExitCode.OK,
        as_json=as_json,
    )

"""`runs`: the project's last runs, and two of them side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.options.json_output import json_option
from msctl.cli.options.run_option import database_of
from msctl.cli.output.result import Result
from msctl.control.paths import is_locked

runs = typer.Typer(
    help="List the last runs of this project; compare two of them.",
    invoke_without_command=True,
    add_completion=False,
)

Named = Annotated[
    str, typer.Argument(help="A run's name, its first characters, or 1 for the newest, 2 for the one before.")
]


@runs.callback()
def list_runs(ctx: typer.Context, as_json: Annotated[bool, json_option("runs")] = False) -> Result | None:
    if ctx.invoked_subcommand is not None:
        return None
    from msctl.cli.output.runs import run_lines
    from msctl.telemetry.runs import database

    options: GlobalOptions = ctx.obj
    with database.reading(database_of(options)) as connection:
        found = database.summaries(connection)
    newest = found[0] if found else None
    running = newest.run if newest is not None and is_locked(options.identify()[1]) else None
    return Result("runs", found, lambda: run_lines(found, running), as_json=as_json)


@runs.command()
def compare(
    ctx: typer.Context,
    before: Named = "2",
    after: Named = "1",
    as_json: Annotated[bool, json_option("comparison")] = False,
) -> Result:
    """Compare two runs: requests, errors and latencies by route, and which traces are new.

    \b
    Examples:
      msctl runs compare          the newest with the one before
      msctl runs compare 20261125T1830 1
    """
    from msctl.cli.output.runs import comparison_lines
    from msctl.model import runs as model
    from msctl.telemetry.runs import database

    options: GlobalOptions = ctx.obj
    with database.reading(database_of(options)) as connection:
        first = database.details(connection, database.find(connection, before))
        second = database.details(connection, database.find(connection, after))
    found = model.compare(first, second)
    return Result("comparison", found, lambda: comparison_lines(found), as_json=as_json)

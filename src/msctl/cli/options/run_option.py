"""`--run`: an earlier run in place of the running stack."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from msctl.cli.options.global_options import GlobalOptions

RunOption = Annotated[
    str | None,
    typer.Option(
        "--run", metavar="RUN", help="Of an earlier run: its name, or 1 for the newest, 2 for the one before."
    ),
]


def database_of(options: GlobalOptions) -> Path:
    """Return the path of the database of the project's runs; the file may not exist."""
    from msctl.control.runs import DATABASE, runs_folder

    _, paths = options.identify()
    return runs_folder(paths, os.environ).parent / DATABASE


def run_name_of(options: GlobalOptions, named: str) -> str:
    """Return the name of the run that `--run` selects. Raises UsageError if there is none."""
    from msctl.telemetry.runs import database

    with database.reading(database_of(options)) as connection:
        return database.find(connection, named).run

"""`init`: a new project."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from msctl.cli.output.result import Result
from msctl.cli.write_files import write_files
from msctl.errors import UsageError


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="The project's folder; created if missing.")
    ] = Path(),
    example: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_INIT_EXAMPLE", metavar="NAME", help="Write this example with its code: shop."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", envvar="MSCTL_INIT_FORCE", help="Overwrite existing files.")
    ] = False,
) -> Result:
    """Write a msctl.toml with the course's system.

    \b
    Examples:
      msctl init
      msctl init shop --example shop
    """
    from msctl.config.init import render_example, render_init
    from msctl.config.project_name import folder_project_name
    from msctl.config.reading.project_ref import FILE_NAME

    name = folder_project_name(folder.absolute())
    files = {FILE_NAME: render_init(name)} if example is None else render_example(example, name, shutil.which)
    existing = sorted(str(folder / path) for path in files if (folder / path).exists())
    if existing and not force:
        raise UsageError(
            f"already exists: {', '.join(existing)}", hint="nothing was written; use --force to overwrite"
        )
    write_files({folder / path: text.encode() for path, text in files.items()})
    change = "" if folder == Path() else f"cd {folder} && "
    return Result(
        "written",
        list(files),
        lambda: [f"wrote {folder / path}" for path in files],
        problems=(f"next: {change}msctl up",),
    )

"""`init`: a project to start from."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from msctl.errors import MsctlError, UsageError


def init(
    folder: Annotated[
        Path, typer.Argument(help="Write into this folder, which is made if need be.")
    ] = Path(),
    example: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_INIT_EXAMPLE",
            help="Write this example, with its code, instead: shop.",
            metavar="NAME",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", envvar="MSCTL_INIT_FORCE", help="Overwrite files that are there.")
    ] = False,
) -> None:
    """Write a msctl.toml with the course's system, commented and ready to edit."""
    from msctl.config.init import render_example, render_init
    from msctl.config.reading.project_ref import FILE_NAME, project_name

    name = project_name(folder.absolute())
    files = {FILE_NAME: render_init(name)} if example is None else render_example(example, name, shutil.which)
    there = sorted(str(folder / path) for path in files if (folder / path).exists())
    if there and not force:
        raise UsageError(f"already there: {', '.join(there)}", hint="nothing was written; --force overwrites")
    try:
        _write(folder, files)
    except OSError as error:
        raise MsctlError(
            f"cannot write {error.filename or folder}: {error.strerror}",
            hint="choose a folder that you can write to: msctl init FOLDER",
        ) from error
    for path in files:
        sys.stdout.write(f"wrote {folder / path}\n")
    go = "" if folder == Path() else f"cd {folder} && "
    sys.stderr.write(f"next: {go}msctl up\n")


def _write(folder: Path, files: dict[str, str]) -> None:
    """All or nothing: drafts first, then each is put in its place."""
    folder.mkdir(parents=True, exist_ok=True)
    drafts = {folder / path: folder / f".{path}.msctl-new" for path in files}
    try:
        for (place, draft), text in zip(drafts.items(), files.values(), strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(text)
        for place, draft in drafts.items():
            draft.replace(place)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)

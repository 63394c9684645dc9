"""The project that a command is about: its name and folder, found without reading its services.

`status` and `down` need no more than this, so it imports nothing that takes time; what is not plain
(a name from a variable, a `.env`, an error) is left to config.load.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import NamedTuple

from msctl.config.project_name import folder_project_name, is_project_name
from msctl.errors import ConfigError
from msctl.files import FileTooLargeError, UntrustedPathError, read_bounded, read_own

FILE_NAME = "msctl.toml"
ENV_FILE_NAME = ".env"
COURSE = "course"
LARGEST_FILE = 4 * 1024 * 1024
NAME_VARIABLE = "MSCTL_PROJECT_NAME"
NAME_KEY = "project.name"


class ProjectRef(NamedTuple):
    """Identifies a running stack: the project's name and folder (None: the built-in system)."""

    name: str
    root: Path | None


class ProjectFile(NamedTuple):
    """The path of a project's file. `found` is set if another user may have put it where msctl finds it: it
    and the `.env` beside it are then used only if this user or root owns them."""

    path: Path
    found: bool


def find_file(start: Path) -> ProjectFile | None:
    """`msctl.toml` in the folder `start` or the nearest folder above it that has one.

    The user chose `start`; its parents, or a folder that everybody can write to, need a trusted owner.
    """
    start = start.absolute()
    for folder in (start, *start.parents):
        candidate = folder / FILE_NAME
        if candidate.is_file():
            return ProjectFile(candidate, folder != start or bool(folder.stat().st_mode & stat.S_IWOTH))
    return None


def choose(file: Path | None, cwd: Path) -> ProjectFile | None:
    """The file given (or the `msctl.toml` in the folder given), else the one found from `cwd` up."""
    if file is None:
        return find_file(cwd)
    path = (cwd / file).absolute()
    return ProjectFile(path / FILE_NAME if path.is_dir() else path, found=False)


def read_project_file(file: ProjectFile, limit: int) -> bytes:
    """Read the project's file or one beside it. Raises ConfigError, OSError and FileTooLargeError."""
    if not file.found:
        return read_bounded(file.path, limit)
    try:
        return read_own(file.path, limit)
    except UntrustedPathError as error:
        project = file.path.with_name(FILE_NAME)
        raise ConfigError(error.message, hint=f"if you trust its owner, name it: --file {project}") from None


def plain_name(file: ProjectFile | None, requested: str | None) -> str | None:
    """The name if only the file or a flag can set it; None if more must be read."""
    if requested is not None and not is_project_name(requested):
        return None
    if file is None:
        return requested or COURSE
    path = file.path
    if (path.parent / ENV_FILE_NAME).exists():
        return None
    import tomllib  # not needed where there is no file

    try:
        project = tomllib.loads(read_project_file(file, LARGEST_FILE).decode()).get("project", {})
    except (OSError, FileTooLargeError, UnicodeDecodeError, RecursionError, tomllib.TOMLDecodeError):
        return None
    if not isinstance(project, dict) or not set(project) <= {"name"}:
        return None
    name = project.get("name", folder_project_name(path.parent))
    if not isinstance(name, str) or not is_project_name(name):
        return None
    return requested or name

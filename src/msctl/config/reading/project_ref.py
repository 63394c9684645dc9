"""The project that a command is about: its name and folder, found without reading its services.

`status` and `down` need no more than this, so it imports nothing that takes time; what is not plain
(a name from a variable, a `.env`, an error) is left to config.load.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

FILE_NAME = "msctl.toml"
ENV_FILE_NAME = ".env"
COURSE = "course"
NAME_VARIABLE = "MSCTL_PROJECT_NAME"
NAME_KEY = "project.name"
PROJECT_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_UNFIT = r"[^A-Za-z0-9_.-]+"


class ProjectRef(NamedTuple):
    """Identifies a running stack: the project's name and folder (None: the built-in system)."""

    name: str
    root: Path | None


def find_file(start: Path) -> Path | None:
    """`msctl.toml` in the folder `start` or the nearest folder above it that has one."""
    start = start.absolute()
    for folder in (start, *start.parents):
        candidate = folder / FILE_NAME
        if candidate.is_file():
            return candidate
    return None


def choose(file: Path | None, cwd: Path) -> Path | None:
    """The file given (or the `msctl.toml` in the folder given), else the one found from `cwd` up."""
    if file is None:
        return find_file(cwd)
    path = (cwd / file).absolute()
    return path / FILE_NAME if path.is_dir() else path


def project_name(root: Path) -> str:
    """The default name of a project in this folder."""
    return re.sub(_UNFIT, "-", root.name).strip("-.")[:63] or "project"


def plain_name(path: Path | None, requested: str | None) -> str | None:
    """The name if only the file or a flag can set it; None if more must be read."""
    if requested is not None and not re.fullmatch(PROJECT_NAME, requested):
        return None
    if path is None:
        return requested or COURSE
    if (path.parent / ENV_FILE_NAME).exists():
        return None
    import tomllib  # not needed where there is no file

    try:
        project = tomllib.loads(path.read_text()).get("project", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None
    if not isinstance(project, dict) or not set(project) <= {"name"}:
        return None
    name = project.get("name", project_name(path.parent))
    if not isinstance(name, str) or not re.fullmatch(PROJECT_NAME, name):
        return None
    return requested or name

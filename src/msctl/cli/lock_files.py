"""Finds the files with the dependencies of services, for their images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msctl.export.containers.docker import PYTHON_PROJECT
from msctl.export.containers.images import GO_FILES, NODE_FILES, Language, language
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec


def lock_files(project: Project) -> dict[str, str]:
    """The lock file of each such service, relative to the project's folder: beside its program, or above."""
    found: dict[str, str] = {}
    if project.root is None:
        return found
    root = project.root.absolute()
    if (root / "uv.lock").is_file():
        found[PYTHON_PROJECT] = "uv.lock"
    names = {Language.NODE: NODE_FILES, Language.GO: GO_FILES}
    for spec in project.services:
        wanted = names.get(language(spec), ())
        candidates = (folder / name for folder in _folders(spec, root) for name in wanted)
        file = next((file for file in candidates if file.is_file()), None)
        if file is not None:
            found[spec.name] = file.relative_to(root).as_posix()
    return found


def _folders(spec: ServiceSpec, root: Path) -> Iterator[Path]:
    """The folders from the program's up to the project's."""
    start = (spec.cwd or root).absolute()
    for word in (spec.command or ())[1:]:
        if not word.startswith("-") and (start / word).exists():
            start = start / word
            break
    for folder in (start, *start.parents):
        if folder.is_relative_to(root):
            yield folder

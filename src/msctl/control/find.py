"""Finds a running stack by its project's name, from any folder."""

from __future__ import annotations

from collections.abc import Mapping

from msctl.control.paths import StackPaths, running_stacks
from msctl.control.record import read_record
from msctl.errors import UsageError


def find_stack(name: str, env: Mapping[str, str]) -> StackPaths | None:
    """The paths of the running stack of project `name`; None if none runs.

    Raises UsageError, listing the folders, for several.
    """
    found = {
        paths: record.root or "built-in"
        for paths in running_stacks(env)
        if (record := read_record(paths)) is not None and record.project == name
    }
    if len(found) > 1:
        folders = sorted(found.values())
        raise UsageError(
            f"several projects named {name!r} are running: {', '.join(folders)}",
            hint=f"choose one by its folder: msctl --file {folders[0]}",
        )
    return next(iter(found), None)

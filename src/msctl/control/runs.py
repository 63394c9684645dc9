"""Where the logs of a project's runs are kept: a folder a run, the newest few, beyond the stack's end.
Beside them is the broker's log.

They lie below MSCTL_STATE_DIR, else XDG_STATE_HOME (the XDG Base Directory specification), in a
folder named as the stack's runtime folder. A run's name begins with its time: names sort by age.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from msctl.control.paths import StackPaths
from msctl.files import UntrustedPathError, create_private_folder, trusted_folder

KEEP = 10
DATABASE = "runs.sqlite"


def runs_folder(paths: StackPaths, env: Mapping[str, str]) -> Path:
    """The folder with a folder for each run of this project."""
    return _state_folder(paths, env) / "runs"


def broker_folder(paths: StackPaths, env: Mapping[str, str]) -> Path:
    """The folder of the embedded broker's log."""
    return _state_folder(paths, env) / "broker"


def _state_folder(paths: StackPaths, env: Mapping[str, str]) -> Path:
    if chosen := env.get("MSCTL_STATE_DIR"):
        base = Path(chosen).absolute()
    else:
        state = Path(env.get("XDG_STATE_HOME", ""))
        base = (state if state.is_absolute() else Path(env.get("HOME", "/")) / ".local" / "state") / "msctl"
    return base / paths.folder.name


def run_name(when: float) -> str:
    """The name of the run that this process begins at `when` (epoch seconds)."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(when))}-{os.getpid()}"


def make_run(folder: Path, name: str) -> Path:
    """Make the folder of a run, and drop the oldest runs. Raises OSError."""
    make_runs_folder(folder)
    run = folder / name
    run.mkdir(mode=0o700)
    for old in _runs(folder)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return run


def make_runs_folder(folder: Path) -> None:
    """Make the folder with a folder for each run. Raises OSError."""
    base, project = folder.parent.parent, folder.parent
    try:
        create_private_folder(base, shared=True)
        with trusted_folder(base, shared=True) as descriptor:
            create_private_folder(project, folder=descriptor)
        create_private_folder(folder)
    except UntrustedPathError as error:
        raise PermissionError(errno.EACCES, error.message) from error


def database_path(folder: Path) -> Path:
    """The database of the project's runs, in its folder, which is made. Raises OSError."""
    make_runs_folder(folder)
    return folder.parent / DATABASE


def last_run(folder: Path) -> Path | None:
    """The newest run's folder; None if nothing has run. Raises UntrustedPathError."""
    try:
        with (
            trusted_folder(folder.parent.parent, shared=True) as base,
            trusted_folder(folder.parent, folder=base) as project,
            trusted_folder(folder, folder=project),
        ):
            runs = _runs(folder)
    except OSError:
        return None
    return runs[-1] if runs else None


def run_named(folder: Path, name: str) -> Path | None:
    """The folder of this run; None if its files are gone. Raises UntrustedPathError."""
    newest = last_run(folder)
    return None if newest is None else next((run for run in _runs(folder) if run.name == name), None)


def _runs(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return []

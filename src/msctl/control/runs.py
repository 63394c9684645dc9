"""Where the logs of a project's runs are kept: a folder a run, the newest few, beyond the stack's end.

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


def runs_folder(paths: StackPaths, env: Mapping[str, str]) -> Path:
    """The folder with a folder for each run of this project."""
    if chosen := env.get("MSCTL_STATE_DIR"):
        base = Path(chosen).absolute()
    else:
        state = Path(env.get("XDG_STATE_HOME", ""))
        base = (state if state.is_absolute() else Path(env.get("HOME", "/")) / ".local" / "state") / "msctl"
    return base / paths.folder.name / "runs"


def make_run(folder: Path, when: float) -> Path:
    """Make the folder of a run that begins at `when` (epoch seconds), and drop the oldest runs.

    Raises OSError.
    """
    base, project = folder.parent.parent, folder.parent
    try:
        create_private_folder(base, shared=True)
        with trusted_folder(base, shared=True) as descriptor:
            create_private_folder(project, folder=descriptor)
        create_private_folder(folder)
    except UntrustedPathError as error:
        raise PermissionError(errno.EACCES, error.message) from error
    run = folder / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(when))}-{os.getpid()}"
    run.mkdir(mode=0o700)
    for old in _runs(folder)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return run


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


def _runs(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return []

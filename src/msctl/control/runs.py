"""Where the logs of a project's runs are kept: a folder a run, the newest few, beyond the stack's end.

They lie below MSCTL_STATE_DIR, else XDG_STATE_HOME (the XDG Base Directory specification), in a
folder named as the stack's runtime folder. A run's name begins with its time: names sort by age.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from msctl.control.paths import StackPaths

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
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    run = folder / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(when))}-{os.getpid()}"
    run.mkdir(mode=0o700)
    for old in _runs(folder)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return run


def last_run(folder: Path) -> Path | None:
    """The newest run's folder; None if nothing has run."""
    runs = _runs(folder)
    return runs[-1] if runs else None


def _runs(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return []

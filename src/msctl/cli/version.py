"""The text of `--version`: the version, the commit it was built from, and the Python that runs it."""

from __future__ import annotations

import sys
from pathlib import Path

from msctl import __version__

PACKAGE = Path(__file__).parents[1]
STAMP = "COMMIT"
"""The file in the package to which a build writes its commit (.packaging/hatch_build.py)."""


def describe(package: Path = PACKAGE) -> str:
    """Return `msctl 1.2.3 (commit …, Python …)`."""
    commit = _commit(package)
    built = f"commit {commit}, " if commit else ""
    return f"msctl {__version__} ({built}Python {sys.version.split()[0]})"


def _commit(package: Path) -> str:
    """Return the commit from the build or, in a checkout, from git; empty if there is neither."""
    try:
        return (package / STAMP).read_text().strip()
    except OSError:
        pass
    checkout = package.parents[1]
    if not (checkout / ".git").exists():
        return ""
    import subprocess  # only a checkout needs it

    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

"""What `--version` says: the version, the commit that it was built from, and the Python that runs it."""

from __future__ import annotations

import sys
from pathlib import Path

from msctl import __version__

PACKAGE = Path(__file__).parents[1]
STAMP = "COMMIT"
"""The file within the package in which a build leaves its commit (packaging/hatch_build.py)."""


def describe(package: Path = PACKAGE) -> str:
    commit = _commit(package)
    built = f"commit {commit}, " if commit else ""
    return f"msctl {__version__} ({built}Python {sys.version.split()[0]})"


def _commit(package: Path) -> str:
    """What the build has left, or in a checkout what git says; empty where neither is to be had."""
    try:
        return (package / STAMP).read_text().strip()
    except OSError:
        pass
    checkout = package.parents[1]
    if not (checkout / ".git").exists():
        return ""
    import subprocess  # a checkout alone pays for it

    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

"""The virtual environment of a project, whose packages its hosted applications import.

msctl may run in an environment of its own: pipx and uvx make one, and the one-file msctl is one. A hosted
application's packages are then elsewhere, in the activated environment (`VIRTUAL_ENV`) or in `.venv` beside
msctl.toml; the first of the two that was made for the Python that runs msctl is used. Where msctl itself runs
in the activated environment, there is nothing to look for.

Its packages come last on sys.path, so that msctl's own dependencies stay the ones that it was tested with.
"""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from msctl.files import is_trusted_user

FOLDER = ".venv"
PYTHON = Path(os.__file__).parent.name
"""The Python that runs msctl, as folders of packages are named: "python3.11", without a GIL "python3.13t"."""
_PACKAGES = "site-packages"


@dataclass(frozen=True, slots=True)
class VirtualEnvironment:
    """An environment that exists on disk."""

    path: Path
    packages: Path | None
    """Its packages, if it is trusted and was made for the Python that runs msctl."""
    pythons: tuple[str, ...]
    """The versions of Python that it has: ("3.13",)."""
    trusted: bool
    """Whether this user, root or the owner of the project owns it."""


def find_environments(
    root: Path, variables: Mapping[str, str], own: Path
) -> tuple[VirtualEnvironment, ...] | None:
    """Return the environments of the project below `root`, the preferred one first.

    `own` is the environment that msctl runs in; None if that is the project's.
    """
    found = []
    for path in _candidates(root, variables):
        if path.resolve() == own.resolve():
            return None
        if path.is_dir():
            found.append(_inspect(path, root))
    return tuple(found)


def add_packages(packages: Path) -> tuple[str, ...]:
    """Make the packages importable, those of `pip install -e` too; return what joined sys.path."""
    before = set(sys.path)
    site.addsitedir(str(packages))
    return tuple(entry for entry in sys.path if entry not in before)


def explain_missing(root: Path, found: tuple[VirtualEnvironment, ...] | None, own: Path) -> str:
    """Return where a missing module was looked for, and where to install it."""
    if found is None:
        return f"it is not installed in {own}"
    for environment in found:
        if environment.packages is not None:
            return f"it is not installed in {environment.path}"
    for environment in found:
        if not environment.trusted:
            return f"{environment.path} is not used, since another user owns it"
        if environment.pythons:
            mine, theirs = PYTHON.removeprefix("python"), environment.pythons[0]
            return (
                f"{environment.path} is not used: it has Python {theirs} and msctl runs with Python {mine}; "
                f"make it with {PYTHON}, or install msctl with Python {theirs}"
            )
    return (
        f"it is not installed in {own}, where msctl runs; install it in {root / FOLDER}, made with {PYTHON}"
    )


def _candidates(root: Path, variables: Mapping[str, str]) -> Iterator[Path]:
    if active := variables.get("VIRTUAL_ENV"):
        yield Path(active)
    yield root / FOLDER


def _inspect(path: Path, root: Path) -> VirtualEnvironment:
    pythons = sorted(folder.parent.name for folder in (path / "lib").glob(f"python3*/{_PACKAGES}"))
    owner = path.stat().st_uid
    trusted = is_trusted_user(owner) or owner == root.stat().st_uid
    return VirtualEnvironment(
        path,
        path / "lib" / PYTHON / _PACKAGES if trusted and PYTHON in pythons else None,
        tuple(name.removeprefix("python") for name in pythons),
        trusted,
    )

"""`--version` names the commit of the build."""

from __future__ import annotations

import platform
from pathlib import Path

from msctl import __version__
from msctl.cli.version import STAMP, describe


def test_version_names_the_commit_of_the_build(tmp_path: Path) -> None:
    package = tmp_path / "lib" / "msctl"
    package.mkdir(parents=True)
    (package / STAMP).write_text("0123456789ab\n")
    assert (
        describe(package) == f"msctl {__version__} (commit 0123456789ab, Python {platform.python_version()})"
    )


def test_version_without_a_known_commit_names_none(tmp_path: Path) -> None:
    assert describe(tmp_path / "a" / "b") == f"msctl {__version__} (Python {platform.python_version()})"

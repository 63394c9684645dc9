"""`--version` names the commit that a build was made of."""

from __future__ import annotations

import platform
from pathlib import Path

from msctl import __version__
from msctl.cli.version import STAMP, describe


def test_a_build_names_the_commit_that_it_was_made_of(tmp_path: Path) -> None:
    package = tmp_path / "lib" / "msctl"
    package.mkdir(parents=True)
    (package / STAMP).write_text("0123456789ab\n")
    assert (
        describe(package) == f"msctl {__version__} (commit 0123456789ab, Python {platform.python_version()})"
    )


def test_where_no_commit_is_known_none_is_named(tmp_path: Path) -> None:
    assert describe(tmp_path / "a" / "b") == f"msctl {__version__} (Python {platform.python_version()})"

"""`--version` names the commit: the one that a build has left, or the checkout's own."""

from __future__ import annotations

import platform
import re
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


def test_what_looks_like_a_checkout_and_is_none_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    package = tmp_path / "src" / "msctl"
    assert describe(package) == f"msctl {__version__} (Python {platform.python_version()})"


def test_a_checkout_names_its_own() -> None:
    if (Path(__file__).parents[3] / ".git").exists():
        assert re.fullmatch(r"msctl \S+ \(commit [0-9a-f]{12}\+?, Python \S+\)", describe())

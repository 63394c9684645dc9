"""`--version` names the commit of a checkout."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from msctl import __version__
from msctl.cli.version import describe


def test_what_looks_like_a_checkout_and_is_none_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    package = tmp_path / "src" / "msctl"
    assert describe(package) == f"msctl {__version__} (Python {platform.python_version()})"


def test_a_checkout_names_its_own() -> None:
    if (Path(__file__).parents[2] / ".git").exists():
        assert re.fullmatch(r"msctl \S+ \(commit [0-9a-f]{12}\+?, Python \S+\)", describe())

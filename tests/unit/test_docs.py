"""The documentation cannot drift: what is generated is current, and what the README shows works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from msctl.cli.app import ALIASES, VERBS
from msctl.errors import ExitCode
from tests.support.docs import FOLDER, documents

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize(("name", "text"), list(documents()), ids=lambda value: value[:20])
def test_generated_documents_are_current(name: str, text: str) -> None:
    """`python -m tests.support.docs` writes them anew."""
    assert (FOLDER / name).read_text() == text


def test_every_verb_is_in_the_readme_and_every_verb_in_the_readme_exists() -> None:
    shown = set(re.findall(r"\bmsctl (?:-\S+ )*([a-z]+)", README))
    assert set(VERBS) - ALIASES <= shown
    prose = {"runs", "into", "alone"}
    assert shown - prose <= set(VERBS)


def test_every_exit_code_is_in_the_readme() -> None:
    rows = re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)
    assert [int(row) for row in rows] == [*map(int, ExitCode), 130]


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (Path(__file__).parents[2] / target).exists(), target

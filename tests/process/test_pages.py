"""Every command of the documentation runs, and prints what its page shows."""

from __future__ import annotations

import re

import pytest

from tests.support.pages import ROOT, TRANSLATED, commands, pages, run, shows, steps, text_of, untested
from tests.support.tools import require

RUN = [page for page in pages() if page not in TRANSLATED and steps(text_of(page))]


@pytest.mark.parametrize("page", RUN)
def test_page_does_what_it_shows(page: str) -> None:
    if any("curl " in step.script for step in steps(text_of(page))):
        require("curl")
    if any("etcd " in step.script for step in steps(text_of(page))):
        require("etcd")
    for step, output in run(page):
        if step.shown is not None:
            assert shows(step.shown, output), f"{step.script}\nshown:\n{step.shown}\nis:\n{output}"


@pytest.mark.parametrize("page", TRANSLATED)
def test_translation_has_the_commands_of_its_original(page: str) -> None:
    assert commands(text_of(page)) == commands(text_of(page.replace(".zh-CN", "")))
    assert steps_shown(page) == steps_shown(page.replace(".zh-CN", ""))


def steps_shown(page: str) -> list[str | None]:
    return [step.shown for step in steps(text_of(page))]


NEEDS_MORE_THAN_A_TEST_HAS = (
    "make",
    "git clone",
    "cd",
    "python -m tests.support",
    "python3 -m venv",
    "pip install",
    ".venv/bin/pip install",
    "pipx",
)
"""First words of the commands that a page shows and tests do not run."""


@pytest.mark.parametrize("page", list(pages()))
def test_commands_that_are_not_run_are_of_a_known_kind(page: str) -> None:
    for command in untested(text_of(page)):
        assert command.startswith(NEEDS_MORE_THAN_A_TEST_HAS), command


@pytest.mark.parametrize("page", list(pages()))
def test_targets_that_a_page_names_are_in_the_makefile(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^\$ )make ([a-z]+)", text_of(page), flags=re.MULTILINE):
        assert f"\n{target}:" in makefile, target

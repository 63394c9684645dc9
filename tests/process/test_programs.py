"""Verbs that the tests run in their own process do the same as a program of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.cli import QUICK, Msctl, run_here
from tests.support.course import Course

VERBS = [
    ("status",),
    ("status", "--json"),
    ("status", "nobody"),
    ("ls",),
    ("routes",),
    ("route", "/users"),
    ("queues", "--management", "http://127.0.0.1:1"),  # the default port may be another test's
    ("graph",),
    ("config",),
    ("logs",),
    ("wait",),
    ("send", "hello", "--json"),
    ("reload",),
    ("stop", "users"),
    ("status", "--no-such-option"),
]
VARIES = re.compile(r"\d+(\.\d+)?(ms|s|m|%| [KM]i?B)?|token=[\w-]+")


@pytest.fixture
def up(course: Course) -> Iterator[Msctl]:
    course.msctl.ok("up", "-d")
    yield course.msctl


def test_a_verb_says_the_same_here_and_in_a_process_of_its_own(up: Msctl) -> None:
    assert {verb[0] for verb in VERBS} <= QUICK
    for verb in VERBS:
        apart, here = up.run_apart(*verb), run_here(verb, up.folder, up.env, b"")
        assert (here.returncode, outline(here.stderr)) == (apart.returncode, outline(apart.stderr)), verb
        said, before = outline(here.stdout), outline(apart.stdout)
        assert (said[: len(before)] if verb[0] == "logs" else said) == before, verb  # a log grows
    assert up.run_apart("down").returncode == 0
    apart, here = up.run_apart("status"), run_here(["status"], up.folder, up.env, b"")
    assert (here.returncode, here.stderr) == (apart.returncode, apart.stderr) == (3, here.stderr)


def outline(text: str) -> list[str]:
    """The lines without the figures that differ from one call to the next."""
    return [" ".join(VARIES.sub("0", line).split()) for line in text.splitlines()]

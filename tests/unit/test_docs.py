"""The documentation cannot drift: what is generated is current, and what pages name exists."""

from __future__ import annotations

import re

import pytest

from msctl.cli.app import VERBS
from tests.support.docs import FOLDER, documents
from tests.support.pages import pages, text_of

PAGES = list(pages())


@pytest.mark.parametrize(("name", "text"), list(documents()), ids=lambda value: value[:20])
def test_generated_documents_are_current(name: str, text: str) -> None:
    """`python -m tests.support.docs` writes them."""
    assert (FOLDER / name).read_text() == text


@pytest.mark.parametrize("page", PAGES)
def test_verbs_that_a_page_names_exist(page: str) -> None:
    named = set(
        re.findall(r"(?:^|`|\$ |\| )msctl (?:--\S+ \S+ )*([a-z]+)\b", text_of(page), flags=re.MULTILINE)
    )
    assert named - {"runs", "needs", "explains"} <= set(VERBS)


def test_pictures_are_small() -> None:
    pictures = list((FOLDER / "images").iterdir())
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 200 * 1024, picture

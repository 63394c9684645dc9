"""The name of a project: letters, digits and marks of any script, and `.`, `-`, `_`."""

from __future__ import annotations

import unicodedata
from pathlib import Path

LONGEST = 63
_PUNCTUATION = "._-"


def is_project_name(text: str) -> bool:
    """Whether `text` can be a project's name; it begins with a letter or digit."""
    first = text[:1]
    return 0 < len(text) <= LONGEST and _is_letter(first) and all(map(_fits, text))


def folder_project_name(folder: Path) -> str:
    """The default name of a project in this folder."""
    # macOS stores file names decomposed; the name that a user types is composed.
    text = unicodedata.normalize("NFC", folder.name)
    name = "".join(char if _fits(char) else " " for char in text)
    name = "-".join(name.split()).strip("-._")[:LONGEST]
    return name if is_project_name(name) else "project"


def _fits(char: str) -> bool:
    return char in _PUNCTUATION or _is_letter(char) or unicodedata.category(char)[0] == "M"


def _is_letter(char: str) -> bool:
    # str.isalnum counts superscripts and fractions as digits; a category does not.
    return unicodedata.category(char) in ("Lu", "Ll", "Lt", "Lm", "Lo", "Nd")

"""`${VARIABLE}` in values, as in docker compose. Pure: the caller looks names up.

Only the form with braces is replaced. A bare `$PORT` is left alone: a command uses it for a variable
of its own environment.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Lookup = Callable[[str], str | None]

_START = re.compile(r"\$(?:\$|\{)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-+?]")


class InterpolationError(Exception):
    """A `${...}` that cannot be replaced; `variable` is its name where that much could be read."""

    def __init__(self, message: str, *, variable: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.variable = variable


def expand(text: str, lookup: Lookup) -> str:
    """`text` with each `${...}` replaced, and `$$` by `$`.

    `${NAME}` · `${NAME:-default}` (also if empty) · `${NAME-default}` (only if unset) ·
    `${NAME:+other}` and `${NAME+other}` (if set) · `${NAME:?message}` and `${NAME?message}`.
    A default may itself hold `${...}`. Raises InterpolationError for a name that is not set and
    has no default, and for braces that do not close.
    """
    value, _ = _expand(text, 0, lookup, is_nested=False)
    return value


def _expand(text: str, pos: int, lookup: Lookup, *, is_nested: bool) -> tuple[str, int]:
    """Expand from `pos` to the end, or within braces to the one that closes them."""
    pieces: list[str] = []
    while pos < len(text):
        if is_nested and text[pos] == "}":
            return "".join(pieces), pos
        start = _START.match(text, pos)
        if start is None:
            pieces.append(text[pos])
            pos += 1
        elif start.group() == "$$":
            pieces.append("$")
            pos = start.end()
        else:
            piece, pos = _reference(text, start.end(), lookup)
            pieces.append(piece)
    if is_nested:
        raise InterpolationError('"${" is not closed by "}"')
    return "".join(pieces), pos


def _reference(text: str, pos: int, lookup: Lookup) -> tuple[str, int]:
    """One reference from after its `${`; returns its value and the position after its `}`."""
    match = _NAME.match(text, pos)
    if match is None:
        raise InterpolationError('"${" must be followed by the name of a variable')
    name = match.group()
    pos = match.end()
    value = lookup(name)
    operator = _OPERATOR.match(text, pos)
    if operator is None:
        if not text.startswith("}", pos):
            raise InterpolationError(f'"${{{name}" is not closed by "}}"', variable=name)
        if value is None:
            raise InterpolationError(f"the variable {name} is not set", variable=name)
        return value, pos + 1
    is_set = bool(value) if operator.group().startswith(":") else value is not None
    takes_word = is_set if operator.group().endswith("+") else not is_set
    # A word that is not taken may name what is not set.
    word, pos = _expand(text, operator.end(), lookup if takes_word else _anything, is_nested=True)
    if operator.group().endswith("-"):
        return (value or "" if is_set else word), pos + 1
    if operator.group().endswith("+"):
        return (word if is_set else ""), pos + 1
    if not is_set:
        raise InterpolationError(word or f"the variable {name} is not set", variable=name)
    return value or "", pos + 1


def _anything(_name: str) -> str:
    return ""

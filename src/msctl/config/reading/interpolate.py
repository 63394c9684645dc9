"""`${VARIABLE}` in values, as in docker compose. Pure: the caller looks names up.

When the configuration is read, only the form with braces is replaced (`expand`). Some names have a value
only when a service starts (its `PORT`, the URL of a dependency): where these are allowed they are
`deferred`, and replaced at the start, then also in the bare form `$PORT` (`fill`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet

Lookup = Callable[[str], str | None]

_START = re.compile(r"\$(?:\$|\{)")
_ANY_START = re.compile(r"\$(?:\$|\{|(?P<bare>[A-Za-z_][A-Za-z0-9_]*))")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<operator>:?[-+?])?")
_OPERATOR = re.compile(r":?[-+?]")


class InterpolationError(Exception):
    """A `${...}` that cannot be replaced; `variable` is its name where that much could be read."""

    def __init__(self, message: str, *, variable: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.variable = variable


def expand(text: str, lookup: Lookup, deferred: AbstractSet[str] = frozenset()) -> str:
    """`text` with each `${...}` replaced, and `$$` by `$`.

    `${NAME}` · `${NAME:-default}` (also if empty) · `${NAME-default}` (only if unset) ·
    `${NAME:+other}` and `${NAME+other}` (if set) · `${NAME:?message}` and `${NAME?message}`.
    A default may itself hold `${...}`. A reference to a `deferred` name stays as it is. Raises
    InterpolationError for a name that is not set and has no default, and for braces that do not close.
    """
    value, _ = _Expansion(text, deferred).run(0, lookup, is_nested=False)
    return value


def names_in(text: str) -> Iterator[str]:
    """The names that `fill` would look up: in `$NAME` and in `${...}`."""
    yield from (match["bare"] for match in _ANY_START.finditer(text) if match["bare"])
    yield from (name for name, _ in references(text))


def references(text: str) -> Iterator[tuple[str, bool]]:
    """The names in `${...}`, each with whether it must be set: it has no default and no alternative."""
    for match in _REFERENCE.finditer(text):
        if match["name"] is not None:
            yield match["name"], (match["operator"] or "?").endswith("?")


def fill(text: str, lookup: Lookup) -> str:
    """`text` with each `$NAME` and `${...}` replaced, and `$$` by `$`; what cannot be replaced stays."""
    pieces: list[str] = []
    pos = 0
    while (start := _ANY_START.search(text, pos)) is not None:
        pieces.append(text[pos : start.start()])
        pos = start.end()
        piece: str | None = "$"
        if (name := start["bare"]) is not None:
            piece = lookup(name)
        elif start.group() == "${":
            try:
                piece, pos = _Expansion(text).reference(pos, lookup)
            except InterpolationError:
                piece = None
        pieces.append(start.group() if piece is None else piece)
    return "".join(pieces) + text[pos:]


class _Expansion:
    """A scan of one text: positions in, replaced text and the next position out."""

    def __init__(self, text: str, deferred: AbstractSet[str] = frozenset()) -> None:
        self._text = text
        self._deferred = deferred

    def run(self, pos: int, lookup: Lookup, *, is_nested: bool) -> tuple[str, int]:
        """Expand from `pos` to the end, or within braces to the one that closes them."""
        text = self._text
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
                piece, pos = self.reference(start.end(), lookup)
                pieces.append(piece)
        if is_nested:
            raise InterpolationError('"${" is not closed by "}"')
        return "".join(pieces), pos

    def reference(self, begin: int, lookup: Lookup) -> tuple[str, int]:
        """One reference from after its `${`; returns its value and the position after its `}`."""
        text = self._text
        match = _NAME.match(text, begin)
        if match is None:
            raise InterpolationError('"${" must be followed by the name of a variable')
        name = match.group()
        pos = match.end()
        is_deferred = name in self._deferred
        value = "" if is_deferred else lookup(name)
        operator = _OPERATOR.match(text, pos)
        if operator is None:
            if not text.startswith("}", pos):
                raise InterpolationError(f'"${{{name}" is not closed by "}}"', variable=name)
            if value is None:
                raise InterpolationError(f"the variable {name} is not set", variable=name)
            return (text[begin - 2 : pos + 1] if is_deferred else value), pos + 1
        is_set = bool(value) if operator.group().startswith(":") else value is not None
        takes_word = is_set if operator.group().endswith("+") else not is_set
        # A word that is not taken may name what is not set.
        used = takes_word and not is_deferred
        word, pos = self.run(operator.end(), lookup if used else _anything, is_nested=True)
        if is_deferred:
            return text[begin - 2 : pos + 1], pos + 1
        if operator.group().endswith("-"):
            return (value or "" if is_set else word), pos + 1
        if operator.group().endswith("+"):
            return (word if is_set else ""), pos + 1
        if not is_set:
            raise InterpolationError(word or f"the variable {name} is not set", variable=name)
        return value or "", pos + 1


def _anything(_name: str) -> str:
    return ""

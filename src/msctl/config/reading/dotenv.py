"""Parses `.env` files as docker compose does. Pure: text in, names with their values and lines out."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msctl.config.reading.interpolate import InterpolationError, Lookup, expand

_SKIP = re.compile(r"(?:[ \t\r]*(?:#[^\n]*)?\n)*[ \t\r]*(?:#[^\n]*\Z)?")
_NAME = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*(=|:(?=[ \t]))?[ \t]*")
_SINGLE = re.compile(r"'([^']*)'[ \t\r]*(?:#[^\n]*)?(?=\n|\Z)")
_DOUBLE = re.compile(r'"((?:\\.|[^"\\])*)"[ \t\r]*(?:#[^\n]*)?(?=\n|\Z)', re.DOTALL)
_REST = re.compile(r"[^\n]*")
_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "$": "$$"}  # "$$" stands for one that expands nothing


class DotenvError(Exception):
    """A line that is not `NAME=value`."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def parse(text: str, env: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Each name with its value and its line (from 1); a name that is given twice takes the last.

    Values are plain (up to ` #`), `'literal'`, or `"with \\n and ${NAME}"`, the quoted ones over
    several lines if need be. `${NAME}` is looked up in `env`, then among the names above it; one
    that is not set is empty, for such files are shared with tools that take it so. A name without
    `=` is left out. Raises DotenvError.
    """
    found: dict[str, tuple[str, int]] = {}

    def lookup(name: str) -> str:
        return env[name] if name in env else found.get(name, ("", 0))[0]

    pos = 0
    while (pos := _end(_SKIP, text, pos)) < len(text):
        line = text.count("\n", 0, pos) + 1
        match = _NAME.match(text, pos)
        if match is None:
            raise DotenvError(line, "expected NAME=value")
        name, assigned = match.group(1), match.group(2)
        value, pos = _value(text, match.end(), line, lookup)
        if assigned:
            found[name] = (value, line)
        elif value:
            raise DotenvError(line, f"expected NAME=value, found {name} without an equals sign")
    return found


def _value(text: str, pos: int, line: int, lookup: Lookup) -> tuple[str, int]:
    if match := _SINGLE.match(text, pos):
        return match.group(1), match.end()
    if match := _DOUBLE.match(text, pos):
        plain = _ESCAPE.sub(lambda m: _ESCAPES.get(m.group(1), m.group(1)), match.group(1))
        return _expanded(plain, line, lookup), match.end()
    if text[pos : pos + 1] in {"'", '"'}:
        raise DotenvError(line, "the quoted value is not closed, or text follows it")
    rest = _REST.match(text, pos)
    end = rest.end() if rest else len(text)
    return _expanded(_COMMENT.sub("", text[pos:end]).strip(), line, lookup), end


def _expanded(text: str, line: int, lookup: Lookup) -> str:
    try:
        return expand(text, lookup)
    except InterpolationError as error:
        raise DotenvError(line, error.message) from error


def _end(pattern: re.Pattern[str], text: str, pos: int) -> int:
    match = pattern.match(text, pos)
    return match.end() if match else pos

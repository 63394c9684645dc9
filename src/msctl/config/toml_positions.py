"""The line of each key in a TOML text. Pure; knows nothing of msctl.

The standard library's parser gives values without positions. This scanner walks a text that the parser
has already accepted, and records only where keys and array elements begin; it reads no value. It relies
on the text being valid: on invalid text its lines are wrong, but it ends. Grammar: TOML 1.0.0.
"""

from __future__ import annotations

import re
from bisect import bisect_right

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LITERAL = re.compile(r"'[^'\n]*'")
_BASIC = re.compile(r'"(?:\\.|[^"\\\n])*"')
_DOT = re.compile(r"[ \t]*\.[ \t]*")
# A closing delimiter takes up to two quotes of the content with it: """a""""" ends in five.
_LONG_BASIC = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'{3,5}", re.DOTALL)
# Numbers, booleans and dates (which may hold a space): up to what can end a value.
_PLAIN = re.compile(r"[^,\]}#\n]+")


def line_numbers(text: str) -> dict[Path, int]:
    """The line (from 1) of every table, key and array element, by its path.

    A path has a string for each key and an integer for each position in an array:
    `("services", "users", "routes", 0)`. A table that has several headers, or that dotted keys
    make, has the line where it is first named. The text must be valid TOML.
    """
    return _Walk(text).document()


class _Walk:
    def __init__(self, text: str) -> None:
        self._text = text
        self._pos = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[Path, int] = {}
        self._elements: dict[Path, int] = {}

    def document(self) -> dict[Path, int]:
        header: Path = ()
        self._skip(_BLANK)
        while self._pos < len(self._text):
            start = self._pos
            if self._take("[["):
                header = self._open(self._key(), is_array=True, start=start)
                self._take("]]")
            elif self._take("["):
                header = self._open(self._key(), is_array=False, start=start)
                self._take("]")
            else:
                self._pair(header)
            self._skip(_BLANK)
            if self._pos == start:  # not TOML; the lines found so far are right
                break
        return self._lines

    def _open(self, key: list[str], *, is_array: bool, start: int) -> Path:
        """The path that a header makes current; `[[a]]` adds an element to the array `a`."""
        path: Path = ()
        for depth, part in enumerate(key, start=1):
            path = (*path, part)
            self._note(path, start)
            if is_array and depth == len(key):
                self._elements[path] = self._elements.get(path, 0) + 1
            if path in self._elements:
                path = (*path, self._elements[path] - 1)
                self._note(path, start)
        return path

    def _pair(self, prefix: Path) -> None:
        start = self._pos
        path = prefix
        for part in self._key():
            path = (*path, part)
            self._note(path, start)
        self._skip(_BLANK)
        self._take("=")
        self._skip(_BLANK)
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._take("["):
            self._skip(_BLANK)
            index = 0
            while self._pos < len(self._text) and not self._take("]"):
                self._note((*path, index), self._pos)
                self._value((*path, index))
                index += 1
                self._separator()
        elif self._take("{"):
            self._skip(_BLANK)
            while self._pos < len(self._text) and not self._take("}"):
                self._pair(path)
                self._separator()
        else:
            for pattern in (_LONG_BASIC, _LONG_LITERAL, _BASIC, _LITERAL, _PLAIN):
                if self._skip(pattern):
                    return
            self._pos = len(self._text)

    def _separator(self) -> None:
        self._skip(_BLANK)
        self._take(",")
        self._skip(_BLANK)

    def _key(self) -> list[str]:
        parts = []
        self._skip(_BLANK)
        while True:
            parts.append(self._simple_key())
            if not self._skip(_DOT):
                break
        self._skip(_BLANK)
        return parts

    def _simple_key(self) -> str:
        start = self._pos
        if self._skip(_BARE_KEY):
            return self._text[start : self._pos]
        if self._skip(_LITERAL):
            return self._text[start + 1 : self._pos - 1]
        if self._skip(_BASIC):
            quoted = self._text[start : self._pos]
            return _unescape(quoted) if "\\" in quoted else quoted[1:-1]
        return ""

    def _note(self, path: Path, offset: int) -> None:
        self._lines.setdefault(path, bisect_right(self._newlines, offset - 1) + 1)

    def _take(self, literal: str) -> bool:
        if not self._text.startswith(literal, self._pos):
            return False
        self._pos += len(literal)
        return True

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self._text, self._pos)
        if match is None or match.end() == self._pos:
            return False
        self._pos = match.end()
        return True


def _unescape(quoted: str) -> str:
    import tomllib  # only a key written with escapes needs it here

    value: str = tomllib.loads(f"key = {quoted}")["key"]
    return value

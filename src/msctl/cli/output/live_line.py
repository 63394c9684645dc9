"""One line at the bottom of a terminal that is drawn again in place, below all other output."""

from __future__ import annotations

import os
from typing import TextIO

_ERASE = "\r\x1b[K"
"""Carriage return and Erase in Line (ECMA-48)."""


class LiveLine:
    """Draws on `stream`; nothing if that is no terminal. Erase it before any other output."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn = ""
        self.enabled = stream.isatty()

    def draw(self, text: str) -> None:
        """Show `text`, cut to the width of the terminal, in the place of what was shown."""
        shown = text[: self._columns() - 1]
        if self.enabled and shown != self._drawn:
            self._write(_ERASE + shown)
            self._drawn = shown

    def erase(self) -> None:
        if self._drawn:
            self._write(_ERASE)
            self._drawn = ""

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except OSError:
            return 80

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self.enabled = False  # nobody reads it

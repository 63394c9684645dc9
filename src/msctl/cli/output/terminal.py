"""What a terminal can show: colours, widths, and text that cannot move the cursor or reorder a line.

Colour only on a terminal, and never with NO_COLOR.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

from msctl.model.snapshots import State

GREEN, YELLOW, RED, GREY, CYAN, BOLD = 32, 33, 31, 90, 36, 1
STATE_COLOURS = {
    State.READY: GREEN,
    State.EXITED: GREEN,
    State.WAITING: YELLOW,
    State.STARTING: YELLOW,
    State.RUNNING: YELLOW,
    State.STOPPING: YELLOW,
    State.BACKOFF: YELLOW,
    State.UNHEALTHY: RED,
    State.FATAL: RED,
    State.SKIPPED: RED,
    State.STOPPED: GREY,
}
"""SGR colours (ECMA-48)."""

NARROWEST = 40
"""Columns assumed of a terminal that reports fewer."""

# C0 and C1 controls, line separators, bidirectional controls (Unicode UAX #9) and lone surrogates.
_UNSAFE = "\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROLS = re.compile(rf"[{_UNSAFE}]")
_IN_JSON = re.compile(rf"(?!\n)[{_UNSAFE}]")
_BUT_COLOURS = re.compile(rf"(?!\x1b\[[0-9;]*m)[{_UNSAFE}]")


def colours(stream: TextIO) -> bool:
    """Whether to colour what is written to `stream` (no-color.org: any value but an empty one)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: int) -> str:
    """Return `text` in an SGR colour (ECMA-48)."""
    return f"\x1b[{colour}m{text}\x1b[0m"


def printable(text: str, *, colours: bool = True) -> str:
    """Escape control characters in a line that a program wrote; tabs stay, and with `colours` SGR does."""
    if text.isprintable():
        return text
    return (_BUT_COLOURS if colours else _CONTROLS).sub(_escape, text)


def plain(text: str) -> str:
    """Escape control characters, and tabs: for names, reasons and cells of a table."""
    return text if text.isprintable() else _CONTROLS.sub(_escape, text).replace("\t", "\\t")


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def safe_json(document: str) -> str:
    """Escape the characters of a JSON document's strings that JSON allows and a terminal obeys."""
    if document.isascii():
        return document
    return _IN_JSON.sub(lambda match: f"\\u{ord(match.group()):04x}", document)


def cells(text: str) -> int:
    """Return the columns that `text` takes on a terminal (wide: Unicode UAX #11)."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # most text is ASCII

    return sum(0 if combining(char) else 1 + (east_asian_width(char) in "WF") for char in text)


def terminal_width() -> int | None:
    """Return the columns to fit standard output into; None where it is not a terminal."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return None
    from shutil import get_terminal_size

    return max(NARROWEST, get_terminal_size().columns)

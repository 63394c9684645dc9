"""What a terminal can show: colours, and text that cannot move the reader's cursor.

Colour only on a terminal, and never with NO_COLOR.
"""

from __future__ import annotations

import os
import re
from typing import TextIO

from msctl.model.snapshots import State

GREEN, YELLOW, RED, GREY, BOLD = 32, 33, 31, 90, 1
STATE_COLOURS = {
    State.READY: GREEN,
    State.RUNNING: GREEN,
    State.EXITED: GREEN,
    State.WAITING: YELLOW,
    State.STARTING: YELLOW,
    State.STOPPING: YELLOW,
    State.BACKOFF: YELLOW,
    State.UNHEALTHY: RED,
    State.FATAL: RED,
    State.SKIPPED: RED,
    State.STOPPED: GREY,
}
"""SGR colours (ECMA-48)."""

_CONTROL = re.compile(r"(?!\x1b\[[0-9;]*m)[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def colours(stream: TextIO) -> bool:
    """Whether to colour what is written to `stream` (no-color.org: any value but an empty one)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: int) -> str:
    """`text` in an SGR colour (ECMA-48)."""
    return f"\x1b[{colour}m{text}\x1b[0m"


def printable(text: str) -> str:
    """Without control characters, but for the sequences that only colour: a log must not move the
    reader's cursor."""
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", text)

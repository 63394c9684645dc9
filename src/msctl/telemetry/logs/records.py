"""Joins the lines of one stream to records: a traceback, a stack or an indented block is one record. Pure.

A line continues the record before it if it is indented, if it belongs to a traceback that has begun, or if it
closes a printed object. A record is complete only when the next one begins, so its last lines wait in the
joiner until `flush`: the caller calls it when nothing has arrived for a moment. Bounded: a record that
reaches MAX_LINES or MAX_CHARACTERS is given out, and the next line begins another.
"""

from __future__ import annotations

import re

MAX_LINES = 200
MAX_CHARACTERS = 16 * 1024

_TRACEBACK = "Traceback (most recent call last):"
_LINKS = (
    "During handling of the above exception",
    "The above exception was the direct cause",
)
_CAUSES = ("Caused by:", "Suppressed:", "... ")
_PANICS = ("panic: ", "fatal error: ")
_CLOSING = frozenset({"}", "]", ")", "},", "],", "})", "]}", "};", "});"})
_GOROUTINE = re.compile(r"goroutine \d+ \[")
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Warning|Interrupt|Exit|Group|Iteration)?(:|$)")


class RecordJoiner:
    """Lines in, records out; a record is text with newlines."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._size = 0
        self._indented = False
        self._traceback = False
        """Within a Python traceback, before its last line."""
        self._chained = False
        """After a traceback's last line: another one may follow."""
        self._goroutine = False

    @property
    def pending(self) -> bool:
        return bool(self._lines)

    def add(self, line: str) -> str | None:
        """Take one line; return the record that it completes, if any."""
        done = None
        if not self._lines or not self._continues(line):
            done = self.flush()
            self._traceback = line == _TRACEBACK
            self._goroutine = line.startswith(_PANICS) or _GOROUTINE.match(line) is not None
        elif len(self._lines) >= MAX_LINES or self._size + len(line) > MAX_CHARACTERS:
            within = self._traceback, self._goroutine, self._indented
            done = self.flush()
            self._traceback, self._goroutine, self._indented = within
        self._lines.append(line)
        self._size += len(line) + 1
        return done

    def flush(self) -> str | None:
        """Return the record that was not complete."""
        if not self._lines:
            return None
        lines, self._lines = self._lines, []
        while len(lines) > 1 and not lines[-1].strip():
            lines.pop()
        self._size = 0
        self._indented = self._traceback = self._chained = self._goroutine = False
        return "\n".join(lines)

    def _continues(self, line: str) -> bool:
        """Whether the line belongs to the record; keeps track of where in it we are."""
        if self._traceback:
            if line[:1] in " \t" or not line:
                self._indented = True
                return True
            # The last line of a traceback, "ValueError: text"; exception groups draw a frame.
            self._traceback = line.startswith(("|", "+"))
            self._chained = not self._traceback
            return self._traceback or _EXCEPTION.match(line) is not None
        if line[:1] in " \t" and line.strip():
            self._indented = True
            return True
        if line == _TRACEBACK:
            self._traceback = True
            return True
        if self._chained and (not line or line.startswith(_LINKS)):
            return True
        if _GOROUTINE.match(line):
            self._goroutine = True
            return True
        if self._goroutine:
            return not line or line.startswith(("created by ", "[signal ")) or line.endswith(")")
        return line.startswith(_CAUSES) or (self._indented and line in _CLOSING)

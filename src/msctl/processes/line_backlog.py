"""The lines of one pipe that wait to be logged: bounded, the newest kept, the rest counted. Pure.

The bytes of a flood are cheap to hold and to count; a Python object for each of its lines is not.
So a piece is searched for newlines as a whole, and only lines that can still be kept become
objects, and only lines that are taken are decoded. Two limits hold at any time: `max_lines` lines
and `max_bytes` bytes wait. What does not fit is dropped from the old end and counted in `skipped`,
so that those who read the log see where lines are missing and how many.
"""

from __future__ import annotations

from collections import deque

MAX_LINES = 10_000
MAX_BYTES = 4 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024
"""Kept of one line; a multiple of what the log hub shows, as a character may take four bytes."""


class LineBacklog:
    """Bytes in, text lines out; bytes that are not UTF-8 become U+FFFD, long lines are cut."""

    def __init__(
        self,
        *,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self.skipped = 0
        """Lines dropped since the last `take`; all of them are older than those that wait."""
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._max_line = max_line_bytes
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._partial = bytearray()
        self._cut = 0

    def __len__(self) -> int:
        """How many lines wait."""
        return len(self._waiting)

    def feed(self, data: bytes) -> None:
        """Add what was read; a line without its newline waits for the rest of it."""
        first = data.find(b"\n")
        if first < 0:
            self._extend(data)
            return
        self._extend(data[:first])
        self._finish()
        last = data.rfind(b"\n")
        if first < last:
            # At most one more piece than can be kept; that first piece holds all the older lines.
            lines = data[first + 1 : last].rsplit(b"\n", self._max_lines)
            if len(lines) > self._max_lines:
                self.skipped += lines[0].count(b"\n") + 1
                del lines[0]
            self._waiting.extend(lines)
            self._size += sum(map(len, lines))
        self._extend(data[last + 1 :])
        self._trim()

    def flush(self) -> None:
        """End the line that has no newline, if there is one: its writer is gone."""
        if self._partial or self._cut:
            self._finish()

    def take(self, limit: int) -> tuple[int, list[str]]:
        """How many lines were skipped before these, and up to `limit` lines, oldest first."""
        skipped, self.skipped = self.skipped, 0
        waiting = self._waiting
        taken = [waiting.popleft() for _ in range(min(limit, len(waiting)))]
        self._size -= sum(map(len, taken))
        return skipped, [self._text(line) for line in taken]

    def take_all(self) -> list[str]:
        """All lines that wait, oldest first."""
        return self.take(len(self._waiting))[1]

    def _extend(self, part: bytes) -> None:
        """Add to the line that is not complete; more than is ever shown is only counted."""
        room = self._max_line - len(self._partial)
        self._partial += part[:room]
        self._cut += max(0, len(part) - room)

    def _finish(self) -> None:
        line = bytes(self._partial)
        if self._cut:
            line += _note(self._cut).encode()
        self._partial.clear()
        self._cut = 0
        self._waiting.append(line)
        self._size += len(line)

    def _trim(self) -> None:
        waiting = self._waiting
        while len(waiting) > self._max_lines or (self._size > self._max_bytes and len(waiting) > 1):
            self._size -= len(waiting.popleft())
            self.skipped += 1

    def _text(self, line: bytes) -> str:
        # A line that came in one piece is cut here; one that came in several was cut before.
        over = len(line) - self._max_line
        if over > 0 and not line.endswith(_CUT_END):
            line = line[: self._max_line] + _note(over).encode()
        return line.decode("utf-8", "replace").rstrip("\r")


_CUT_END = b" more bytes cut)"


def _note(count: int) -> str:
    return f"… ({count} more bytes cut)"

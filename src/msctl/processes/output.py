"""Reads a child's output pipe and splits it into lines, at bounded cost.

A pipe is read as soon as it has data, so that a child does not block on writing. A child that writes without
pause gets a small share of the loop: see `_PAUSE_FACTOR`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

MAX_LINE_BYTES = 64 * 1024
"""Bytes of one line; four times the characters that the log hub keeps."""

_CHUNK = 8 * 1024
_PAUSE_FACTOR = 9
"""After a full chunk, reading pauses for this many times the time it took: a flood costs at most a tenth of
the loop, and the full pipe slows the child down."""


class LineSplitter:
    """Splits bytes into lines. Invalid UTF-8 becomes U+FFFD; long lines are cut."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._partial = bytearray()
        self._cut = 0

    def feed(self, data: bytes) -> list[str]:
        """Add data; returns the lines that it completes."""
        *whole, rest = data.split(b"\n")
        lines = []
        for part in whole:
            self._keep(part)
            lines.append(self._take())
        self._keep(rest)
        return lines

    def flush(self) -> list[str]:
        """Return the last, unfinished line, if any."""
        return [self._take()] if self._partial or self._cut else []

    def _keep(self, part: bytes) -> None:
        room = self._limit - len(self._partial)
        self._partial += part[:room]
        self._cut += max(0, len(part) - room)

    def _take(self) -> str:
        text = self._partial.decode("utf-8", "replace").rstrip("\r")
        if self._cut:
            text += f"… ({self._cut} more bytes cut)"
        self._partial.clear()
        self._cut = 0
        return text


class Output:
    """Reads a pipe, whose descriptor it owns, and calls `line` with each line until it is closed."""

    def __init__(self, fd: int, line: Callable[[str], None]) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._line = line
        self._splitter = LineSplitter()
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._loop.add_reader(fd, self._readable)

    def close(self) -> None:
        """Read what is left in the pipe and close it; a descendant may still hold the other end."""
        if self._fd < 0:
            return
        # More than a pipe holds, but bounded: a descendant may still write.
        for _ in range(128):
            if not self._read():
                break
        self._end()

    def _readable(self) -> None:
        began = time.thread_time()
        size = self._read()
        if size is None:
            return
        if size == 0:
            self._end()
        elif size == _CHUNK:
            self._loop.remove_reader(self._fd)
            self._pause = self._loop.call_later((time.thread_time() - began) * _PAUSE_FACTOR, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._fd, self._readable)

    def _read(self) -> int | None:
        """Read once; returns the number of bytes, 0 at the end, None if there is no data now."""
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return 0
        for text in self._splitter.feed(data):
            self._line(text)
        return len(data)

    def _end(self) -> None:
        for text in self._splitter.flush():
            self._line(text)
        if self._pause is not None:
            self._pause.cancel()
        else:
            self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1

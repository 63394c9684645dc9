"""What a child prints: from the bytes in its pipe to lines, without end and at bounded cost.

A pipe is read as soon as there is something in it, so that no child ever stands still over its
log; but one that prints as fast as it can is given a small share of the loop and no more.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

MAX_LINE_BYTES = 64 * 1024
"""Kept of one line; a multiple of what the log hub shows, as a character may take four bytes."""

_CHUNK = 8 * 1024
_REST = 9
"""After reading a full chunk, a pipe rests for so many times as long as that took: a flood costs
the loop at most one part in ten, and the child is slowed down by its own full pipe."""


class LineSplitter:
    """Bytes in, lines out. What is not UTF-8 is shown as U+FFFD; lines that are too long are cut."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._partial = bytearray()
        self._cut = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        *whole, rest = data.split(b"\n")
        lines = []
        for part in whole:
            self._keep(part)
            lines.append(self._take())
        self._keep(rest)
        return lines

    def flush(self) -> list[str]:
        """The line that was begun and not ended, if there is one."""
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
    """Reads one pipe (a non-blocking descriptor, which it owns) into `line`, until it is closed."""

    def __init__(self, fd: int, line: Callable[[str], None]) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._line = line
        self._splitter = LineSplitter()
        self._loop = asyncio.get_running_loop()
        self._rest: asyncio.TimerHandle | None = None
        self._loop.add_reader(fd, self._readable)

    def close(self) -> None:
        """Take in what is still in the pipe, and let go of it; what holds its other end may live on."""
        if self._fd < 0:
            return
        # A pipe and more, but not without end: its writer may outlive the child, and go on.
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
            self._rest = self._loop.call_later((time.thread_time() - began) * _REST, self._resume)

    def _resume(self) -> None:
        self._rest = None
        self._loop.add_reader(self._fd, self._readable)

    def _read(self) -> int | None:
        """How many bytes there were; 0 at the end, None where there is nothing at the moment."""
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
        if self._rest is not None:
            self._rest.cancel()
        else:
            self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1

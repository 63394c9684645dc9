"""Writes lines to file descriptors from a thread of its own, so that a slow reader stops nobody.

A terminal after Ctrl-S, or a pipe that nobody reads, blocks write() for any time; on the event loop that
would stop every hosted service. So `put` only appends to a bounded queue and never waits. Invariant: the
thread alone calls write(), and holds no lock while it does. When the queue is full, its oldest lines are
dropped; they are counted, and a line in their place says how many were skipped. When the reader is gone
(EPIPE, or any other error), that descriptor's lines are discarded without an error.

The thread is a daemon: a write that never returns does not keep the process from exiting.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable

from msctl.model.events import skipped_text

MAX_LINES = 20_000
MAX_BYTES = 8 * 1024 * 1024
"""Limits of the queue."""
CLOSE_TIMEOUT_S = 2.0
"""Time that `close` gives a slow reader to take the rest."""
_MAX_BATCH = 64 * 1024


class BackgroundWriter:
    """A bounded queue of lines, and the thread that writes them."""

    def __init__(
        self,
        *,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
        skipped: Callable[[int], str] = skipped_text,
    ) -> None:
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._skipped_text = skipped
        self._queue: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._skipped: dict[int, int] = {}
        self._closing = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._dead: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="msctl-output", daemon=True)
        self._thread.start()

    def put(self, descriptor: int, line: str, end: str = "\n") -> None:
        """Queue a line, given without its end. Never blocks, and raises nothing."""
        data = f"{line}{end}".encode(errors="backslashreplace")
        if not data:
            return
        with self._lock:
            self._queue.append((descriptor, data))
            self._bytes += len(data)
            while len(self._queue) > self._max_lines or self._bytes > self._max_bytes:
                oldest, lost = self._queue.popleft()
                self._bytes -= len(lost)
                self._skipped[oldest] = self._skipped.get(oldest, 0) + 1
            self._changed.notify()

    def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Write what is queued, for `timeout` seconds at most, and stop."""
        with self._lock:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            for descriptor, lines in batch:
                self._write(descriptor, b"".join(lines))

    def _take(self) -> list[tuple[int, list[bytes]]] | None:
        """Wait for lines and return the next ones, in order; None when closed and empty."""
        with self._lock:
            while not self._queue:
                if self._closing:
                    return None
                self._changed.wait()
            batch = [
                (descriptor, [f"{self._skipped_text(count)}\n".encode()])
                for descriptor, count in self._skipped.items()
            ]
            self._skipped.clear()
            size = 0
            while self._queue and size < _MAX_BATCH:
                descriptor, data = self._queue.popleft()
                size += len(data)
                if batch and batch[-1][0] == descriptor:
                    batch[-1][1].append(data)
                else:
                    batch.append((descriptor, [data]))
            self._bytes -= size
            return batch

    def _write(self, descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        while view and descriptor not in self._dead:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:  # a program that shares the terminal made it non-blocking
                select.select([], [descriptor], [])
            except OSError:
                self._dead.add(descriptor)

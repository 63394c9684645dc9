"""What children print: drained as fast as it comes, logged at a bounded cost. No child waits for its log.

Two things have to hold at once, and one loop has to do both: a child that floods is never slowed
down, and the requests that the loop serves do not notice the flood.

- The pipe is as large as the system allows (1 MiB on Linux), and a read takes all of it. After a
  read the pipe is left alone for a few milliseconds, in which not even memory could fill it, so a
  flood costs a few hundred reads a second however many lines it has.
- Bytes go to the log file as they are, in a thread (telemetry/logs/run_files.py).
- Lines go to the log hub through a LineBacklog and a Pace: so many lines a second over all
  children, in small portions. What the pace cannot carry and the backlog cannot hold is skipped,
  and said: the reader sees how many lines are missing and where.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from typing import Protocol

from msctl.processes.line_backlog import LineBacklog

PIPE_SIZE = 1024 * 1024
_REST_S = 0.005
_FASTEST = 256 * 1024 * 1024
"""Bytes a second that no program prints: the rest after a read is shorter than filling the pipe takes."""

LINES_PER_S = 25_000
"""Lines that reach the log hub in a second, over all children; about a fifth of the loop."""
_BURST = 500
_PORTION = 250
_TICK_S = 0.01


class Sink(Protocol):
    """Where the output of one pipe goes. Called on the event loop; must not block."""

    def raw(self, data: bytes) -> None:
        """The bytes as they were read."""
        ...

    def line(self, text: str) -> None:
        """One line."""
        ...

    def skipped(self, count: int) -> None:
        """`count` lines that came before the next line are left out."""
        ...


class Pace:
    """The lines a second that all children of a stack have together, shared out in turn."""

    def __init__(self, *, rate: int = LINES_PER_S) -> None:
        self.buffer = bytearray(PIPE_SIZE)
        """What pipes are read into; used within one call only."""
        self._rate = rate
        self._credit = float(_BURST)
        self._counted_at = 0.0
        self._waiting: dict[Output, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def request(self, output: Output) -> None:
        """Deliver the lines of `output`: at once where there is credit, else in its turn."""
        self._waiting[output] = None
        if self._timer is None:
            self._run()

    def _run(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._credit = min(_BURST, self._credit + (now - self._counted_at) * self._rate)
        self._counted_at = now
        left = min(int(self._credit), _PORTION)
        while self._waiting and left > 0:
            output = next(iter(self._waiting))
            del self._waiting[output]
            used = output.deliver(max(1, left // (len(self._waiting) + 1)))
            left -= used
            self._credit -= used
            if output.pending:
                self._waiting[output] = None
        if self._waiting:
            self._timer = loop.call_later(_TICK_S, self._run)


class Output:
    """Reads one pipe, a descriptor that it owns, until its end or `close`."""

    def __init__(self, fd: int, sink: Sink, pace: Pace) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._sink = sink
        self._pace = pace
        self._backlog = LineBacklog()
        self._loop = asyncio.get_running_loop()
        self._size = enlarge(fd)
        self._resting: asyncio.TimerHandle | None = None
        self._delivered = asyncio.Event()
        self._loop.add_reader(fd, self._readable)

    @property
    def pending(self) -> bool:
        """Whether lines wait to be delivered."""
        return len(self._backlog) > 0

    async def delivered(self) -> None:
        """Return when the pipe is closed and its last line was delivered."""
        await self._delivered.wait()

    def close(self) -> None:
        """Read what is still in the pipe, and close it; its other end may still be open elsewhere."""
        if self._fd < 0:
            return
        # A pipe and a bit more, but not without end: a writer that outlived the child may go on.
        for _ in range(8):
            if not self._read():
                break
        self._end()

    def deliver(self, limit: int) -> int:
        """Hand up to `limit` lines to the sink; returns how many there were."""
        skipped, lines = self._backlog.take(limit)
        if skipped:
            self._sink.skipped(skipped)
        for text in lines:
            self._sink.line(text)
        if self._fd < 0 and not self.pending:
            self._delivered.set()
        return len(lines)

    def _readable(self) -> None:
        size = self._read()
        if size is None:
            return
        if size == 0:
            self._end()
        elif size <= self._size // 2:
            self._loop.remove_reader(self._fd)
            self._resting = self._loop.call_later(min(_REST_S, self._size / _FASTEST), self._resume)

    def _resume(self) -> None:
        self._resting = None
        self._loop.add_reader(self._fd, self._readable)

    def _read(self) -> int | None:
        """How many bytes there were; 0 at the end, None where there is nothing at the moment."""
        try:
            size = os.readv(self._fd, [self._pace.buffer])
        except BlockingIOError:
            return None
        except OSError:
            return 0
        if size:
            data = bytes(memoryview(self._pace.buffer)[:size])
            self._sink.raw(data)
            self._backlog.feed(data)
            if self.pending:
                self._pace.request(self)
        return size

    def _end(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        else:
            self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        self._backlog.flush()
        if self.pending:
            self._pace.request(self)
        else:
            self._delivered.set()


def enlarge(fd: int) -> int:
    """Make a pipe as large as it may be; returns its size in bytes.

    An unprivileged user has 64 MiB of pipes in all (pipe(7), pipe-user-pages-soft); a pipe that
    cannot grow keeps its size.
    """
    try:
        return fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except (AttributeError, OSError):  # not Linux, or the user's pipes are used up
        return 64 * 1024 if not hasattr(fcntl, "F_GETPIPE_SZ") else fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)

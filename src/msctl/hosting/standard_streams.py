"""`print()` and `breakpoint()` of hosted services.

Services of one process share its standard streams. `ServiceStream` stands in for one of them and
sorts by who writes: text that is written while a service's code runs becomes lines of that service's
log, everything else passes through to the real stream. Who writes is known from a context variable,
which follows the service's tasks and its calls of `asyncio.to_thread`; a thread that a service starts
by other means counts as the stack's.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

Line = Callable[[str, str, str], None]
"""Called with service, stream ("stdout" or "stderr") and one line; may be called in any thread."""

MAX_LINE = 64 * 1024
"""Characters after which a line that has not ended is handed on."""


class _Busy(threading.local):
    logging = False


class ServiceStream(io.TextIOBase):
    """A text stream in the place of `sys.stdout` or `sys.stderr`."""

    def __init__(self, real: TextIO, name: str, writer: Callable[[], str | None], line: Line) -> None:
        """`writer` says which service's code runs, None for the stack's own."""
        self._real = real
        self._name = name
        self._writer = writer
        self._line = line
        self._partial: dict[str, str] = {}
        self._lock = threading.RLock()
        self._busy = _Busy()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # io.TextIOBase declares an attribute
        return self._real.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # as above
        return self._real.errors

    @property
    def buffer(self) -> io.BufferedIOBase:
        return self._real.buffer  # type: ignore[return-value]  # a BinaryIO is one in practice

    def write(self, text: str) -> int:
        service = None if self._busy.logging else self._writer()
        if service is None:
            return self._real.write(text)
        with self._lock:
            *lines, rest = (self._partial.pop(service, "") + text).split("\n")
            if len(rest) > MAX_LINE:
                lines.append(rest)
            elif rest:
                self._partial[service] = rest
        self._busy.logging = True  # whoever shows the log may print, in the service's context
        try:
            for line in lines:
                self._line(service, self._name, line)
        finally:
            self._busy.logging = False
        return len(text)

    def flush(self) -> None:
        self._real.flush()

    def fileno(self) -> int:
        return self._real.fileno()

    def isatty(self) -> bool:
        return self._writer() is None and self._real.isatty()

    def writable(self) -> bool:
        return True


@contextmanager
def service_streams(writer: Callable[[], str | None], line: Line) -> Iterator[None]:
    """Sort what this process prints by service while the context is open."""
    real = sys.stdout, sys.stderr
    sys.stdout = ServiceStream(real[0], "stdout", writer, line)
    sys.stderr = ServiceStream(real[1], "stderr", writer, line)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = real


@contextmanager
def breakpoints(*, interactive: bool, skipped: Callable[[str], None]) -> Iterator[None]:
    """Make `breakpoint()` usable in hosted services while the context is open.

    On a terminal the debugger talks to the real streams and leaves SIGINT alone: Python's own hook
    replaces its handler for good, and Ctrl-C would no longer stop the stack. Elsewhere there is nobody
    to talk to: the call returns at once, and `skipped` is given its place. PYTHONBREAKPOINT wins.
    """
    if "PYTHONBREAKPOINT" in os.environ:
        yield
        return

    def hook(*_args: object, **_options: object) -> None:
        frame = sys._getframe(1)
        if interactive:
            import pdb  # takes longer to import than most of msctl, and hardly ever happens

            debugger = pdb.Pdb(stdin=sys.__stdin__, stdout=sys.__stdout__, nosigint=True)
            debugger.set_trace(frame)
        else:
            skipped(_place(frame))

    former, sys.breakpointhook = sys.breakpointhook, hook
    try:
        yield
    finally:
        sys.breakpointhook = former


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"

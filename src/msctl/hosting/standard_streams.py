"""`print()` and `breakpoint()` of hosted services.

Services of one process share its standard streams. `ServiceStream` stands in for one of them and
sorts by who writes: text that is written while a service's code runs becomes lines of that service's
log, everything else passes through to the real stream. Who writes is known from a context variable,
which follows the service's tasks and its threads (service_threads.py). What a handler of `logging` prints
is handed on as its record, whole and with its level.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TextIO

from msctl.telemetry.logs.records import RecordJoiner

Line = Callable[[str, str, str], None]
"""Called with service, stream ("stdout" or "stderr") and one line; may be called in any thread."""

Logged = Callable[[str, str, logging.LogRecord, str], None]
"""Called with service, stream, a record of `logging` and its text as the service's own handler formats it."""

_EMIT = logging.StreamHandler.emit.__code__

MAX_LINE = 64 * 1024
"""Characters after which a line that has not ended is handed on."""


class _Busy(threading.local):
    logging = False


class ServiceStream(io.TextIOBase):
    """A text stream in the place of `sys.stdout` or `sys.stderr`."""

    def __init__(
        self, real: TextIO, name: str, writer: Callable[[], str | None], line: Line, logged: Logged
    ) -> None:
        """`writer` says which service's code runs, None for the stack's own."""
        self._real = real
        self._name = name
        self._writer = writer
        self._line = line
        self._logged = logged
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
        caller = sys._getframe(1)
        if caller.f_code is _EMIT:
            self._hand_on(partial(self._logged, service, self._name, caller.f_locals["record"], text))
            return len(text)
        with self._lock:
            *lines, rest = (self._partial.pop(service, "") + text).split("\n")
            if len(rest) > MAX_LINE:
                lines.append(rest)
            elif rest:
                self._partial[service] = rest
        for record in _records(lines):
            self._hand_on(partial(self._line, service, self._name, record))
        return len(text)

    def _hand_on(self, step: Callable[[], None]) -> None:
        self._busy.logging = True  # whoever shows the log may print, in the service's context
        try:
            step()
        finally:
            self._busy.logging = False

    def flush(self) -> None:
        self._real.flush()

    def fileno(self) -> int:
        return self._real.fileno()

    def isatty(self) -> bool:
        return self._writer() is None and self._real.isatty()

    def writable(self) -> bool:
        return True


def _records(lines: list[str]) -> list[str]:
    """Join the lines of one write: a traceback that is printed at once is one record."""
    if len(lines) < 2:
        return lines
    joiner = RecordJoiner()
    return [record for line in lines if (record := joiner.add(line)) is not None] + [joiner.flush() or ""]


@contextmanager
def service_streams(writer: Callable[[], str | None], line: Line, logged: Logged) -> Iterator[None]:
    """Sort what this process prints by service while the context is open."""
    real = sys.stdout, sys.stderr
    sys.stdout = ServiceStream(real[0], "stdout", writer, line, logged)
    sys.stderr = ServiceStream(real[1], "stderr", writer, line, logged)
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

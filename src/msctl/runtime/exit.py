"""The end of a stack's process, after everything in it is closed.

What a hosted application registered with `atexit` runs, as in any program. Its threads may run for ever,
though: Python waits for those that are no daemons, and for the calls that its executors still work on. Its
tasks may refuse to be cancelled. Neither keeps the process, nor the error that it ends with.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from msctl.errors import ExitCode, MsctlError

EXIT_S = 3.0
"""How long the event loop may take to end, and then the interpreter."""


class _TooLong(SystemExit):
    """The time is over. A task keeps all exceptions but SystemExit and KeyboardInterrupt to itself."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Leave the body after `seconds`, wherever it is. In the main thread only: it takes SIGALRM."""

    def end(_number: int, _frame: object) -> None:
        raise _TooLong

    former = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    except _TooLong:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


@contextmanager
def exits_soon() -> Iterator[None]:
    """Exit soon after the body, unless the process has ended by itself until then: with the code of the
    error that the body raises, or 0.
    """
    code = ExitCode.FAILED
    try:
        yield
        code = ExitCode.OK
    except MsctlError as error:
        code = error.exit_code
        raise
    finally:
        exit_soon(code)


def exit_soon(code: int) -> None:
    """Exit with `code` after EXIT_S, unless the process has ended by itself until then."""
    timer = threading.Timer(EXIT_S, os._exit, (code,))
    timer.daemon = True
    timer.start()

"""Ctrl-C while modules are imported.

A KeyboardInterrupt within an import can be lost: importlib runs callbacks of weak references, whose
exceptions Python reports and ignores. The verb would go on as if nobody had asked.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from msctl.errors import ExitCode


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """End the process at once on Ctrl-C, while there is nothing to clean up; an event loop may take over."""
    former = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if former is not signal.default_int_handler or not is_main:  # ignored, as by `nohup`, or handled
        yield
        return
    signal.signal(signal.SIGINT, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _exit(_number: int, _frame: object) -> None:
    os._exit(ExitCode.INTERRUPTED)

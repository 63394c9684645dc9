"""The end of a stack's process, after everything in it is closed.

What a hosted application registered with `atexit` runs, as in any program. Its threads may run for ever,
though: Python waits for those that are no daemons, and for the calls that its executors still work on.
"""

from __future__ import annotations

import os
import threading

EXIT_S = 3.0
"""How long the interpreter may take to end."""


def exit_soon(code: int, seconds: float = EXIT_S) -> None:
    """Exit with `code` after `seconds`, unless the process has ended by itself until then."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()

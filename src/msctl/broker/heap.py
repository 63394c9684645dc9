"""The heap of the process: memory given back to the system, and what the garbage collector looks through.

`HeapTrimmer` gives memory back after the broker has dropped many messages.

glibc keeps freed blocks for later use, in the order of their addresses; a block that is still used keeps
everything below it. `malloc_trim` returns whole free pages wherever they are. It runs in a thread (ctypes
releases the interpreter's lock), but whoever allocates meanwhile waits for it, and it takes up to a
millisecond per megabyte. So each call gives back about TRIM_AFTER, and the messages of a purged queue are
freed no faster than that.

`LongLived` keeps full collections short. A queue is some twenty objects and a binding ten, which stay: with a
million bindings a full collection would hold the event loop for a second. `gc.freeze` takes all that is there
out of the collector's sight; reference counts still free it. What was garbage in a cycle at that moment
stays, which is little, because it is called once for each FREEZE_AFTER things that were made.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

TRIM_AFTER = 8 * 1024 * 1024
"""Bytes that messages must have given up since the last time."""
FREEZE_AFTER = 5_000
"""Queues, exchanges and bindings that must have been made since the last time."""


def malloc_trim() -> Callable[[], None] | None:
    """A function that returns free memory to the system; None where the C library has none (not glibc)."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    trim.argtypes = [ctypes.c_size_t]
    trim.restype = ctypes.c_int

    def run() -> None:
        trim(0)

    return run


class HeapTrimmer:
    """Trims in a thread, one call at a time, when the bytes in use have fallen far enough."""

    def __init__(self, trim: Callable[[], None] | None, run: Callable[[Callable[[], None]], None]) -> None:
        """`run` runs a function in a thread, and calls `finished` afterwards."""
        self._trim = trim
        self._run = run
        self._peak = 0
        self.running = False

    def check(self, used: int) -> None:
        """Start to trim if `used` bytes of messages are enough less than at their peak."""
        self._peak = max(self._peak, used)
        if self._trim is None or self.running or self._peak - used < TRIM_AFTER:
            return
        self._peak = used
        self.running = True
        self._run(self._trim)

    def finished(self) -> None:
        self.running = False


class LongLived:
    """Freezes what is there when the number of queues, exchanges and bindings has grown far enough."""

    def __init__(self, freeze: Callable[[], None] = gc.freeze) -> None:
        self._freeze = freeze
        self._frozen = 0

    def check(self, things: int) -> None:
        if things < self._frozen:
            self._frozen = things
        elif things - self._frozen >= FREEZE_AFTER:
            self._frozen = things
            self._freeze()

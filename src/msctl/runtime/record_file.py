"""The file by which other processes know a running stack."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable

from msctl.control.paths import StackPaths
from msctl.control.record import StackRecord, clear_record
from msctl.processes.pid_file import start_time

log = logging.getLogger("msctl.runtime.record")


class RecordFile:
    """Writes a stack's record; on a full or read-only disk the stack runs on without one.

    The control socket answers for it: only `down` of a stack that hangs needs the record.
    """

    def __init__(self, paths: StackPaths, make: Callable[[int, float], StackRecord]) -> None:
        """`make` gets this process's id, and when it started."""
        self._paths = paths
        self._make = make
        self._started = start_time(os.getpid())
        self._failing = False

    def write(self) -> None:
        try:
            self._make(os.getpid(), self._started).write(self._paths)
        except OSError as error:
            if not self._failing:
                self._failing = True
                log.warning("cannot write %s: %s", self._paths.record, error.strerror or error)
        else:
            self._failing = False

    def clear(self) -> None:
        """Remove it; where the folder became read-only, the lock tells that the stack has ended."""
        with contextlib.suppress(OSError):
            clear_record(self._paths)

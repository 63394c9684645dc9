"""A project's stack before it runs: its lock, its listening control socket and its first record.

Loading a stack takes a moment. With the claim, the stack exists for every other verb: `status` and `wait`
connect and are answered as soon as it can, `down` finds the process, and a second `up` joins it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass

from msctl.control.listening import listen
from msctl.control.paths import StackLock, StackPaths
from msctl.control.record import StackRecord
from msctl.model.project import Project


@dataclass(frozen=True, slots=True)
class Claim:
    """This process, or a fork of it, becomes the stack of the project with these paths."""

    paths: StackPaths
    lock: StackLock
    listening: socket.socket

    @classmethod
    def take(cls, paths: StackPaths) -> Claim | None:
        """Take the lock of a prepared folder and listen; None if a stack runs, starts or stops there."""
        lock = StackLock.acquire(paths)
        if lock is None:
            return None
        try:
            return cls(paths, lock, listen(paths.socket))
        except BaseException:
            lock.close()
            raise

    def announce(self, project: Project) -> None:
        """Write the record of this process; the stack completes it once it knows its addresses."""
        from msctl.processes.pid_file import start_time

        root = None if project.root is None else str(project.root)
        with contextlib.suppress(OSError):  # the stack writes it again, and reports what is wrong
            StackRecord(project.name, root, os.getpid(), start_time(os.getpid())).write(self.paths)

    def close(self) -> None:
        """Close this process's descriptors; a forked child still holds the lock and listens."""
        self.listening.close()
        self.lock.close()

"""The record of a stack: what verbs need to find or stop it when its control socket does not respond.

The lock, not the record, shows whether the stack runs. The record is read only from a trusted folder, and a
signal goes only to a process that is proven to be the stack: it has the recorded start time and, where the
system shows it, the stack's lock file open.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from msctl.control.paths import StackPaths
from msctl.files import FileTooLargeError, read_trusted, write_atomically

MAX_SIZE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StackRecord:
    """The stack of `project` in the folder `root` (None for the built-in system) with its `pid`.

    `started` is the process's start time in epoch seconds. `broker_url` includes the password, and
    `dashboard_url` the token: the file is readable only by its owner.
    """

    project: str
    root: str | None
    pid: int
    started: float = 0.0
    addresses: tuple[str, ...] = ()
    broker_url: str | None = None
    dashboard_url: str | None = None

    def write(self, paths: StackPaths) -> None:
        """Replace the record atomically."""
        with paths.opened() as folder:
            write_atomically(paths.record, json.dumps(asdict(self)).encode(), folder=folder)


def read_record(paths: StackPaths) -> StackRecord | None:
    """Read the record; None if it is missing or malformed. Raises UntrustedPathError."""
    try:
        with paths.opened() as folder:
            document = json.loads(read_trusted(paths.record, MAX_SIZE, folder=folder))
        return StackRecord(
            document["project"],
            document["root"],
            int(document["pid"]),
            float(document.get("started", 0.0)),
            tuple(document["addresses"]),
            document["broker_url"],
            document.get("dashboard_url"),
        )
    except (OSError, FileTooLargeError, ValueError, KeyError, TypeError, AttributeError):
        return None


def clear_record(paths: StackPaths) -> None:
    paths.record.unlink(missing_ok=True)


def signal_stack(paths: StackPaths, record: StackRecord, number: signal.Signals) -> bool:
    """Send a signal to the stack's process; returns False if the process is not proven to be the stack."""
    try:
        pidfd = os.pidfd_open(record.pid) if hasattr(os, "pidfd_open") else None
    except OSError:
        return False
    try:
        # The descriptor is open before the check: the id cannot pass to another process in between.
        if not _is_stack(paths, record):
            return False
        if pidfd is None:
            os.kill(record.pid, number)
        else:
            signal.pidfd_send_signal(pidfd, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        if pidfd is not None:
            os.close(pidfd)
    return True


def _is_stack(paths: StackPaths, record: StackRecord) -> bool:
    from msctl.processes.pid_file import is_process  # imports psutil, which reading a record does not need

    if not is_process(record.pid, record.started):
        return False
    if not Path("/proc/self/fd").is_dir():
        return True  # this system does not show open files
    try:
        lock = paths.lock.stat()
        descriptors = list(Path(f"/proc/{record.pid}/fd").iterdir())
    except OSError:
        return False
    return any(_is_same_file(descriptor, lock) for descriptor in descriptors)


def _is_same_file(path: Path, status: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(path.stat(), status)
    return False

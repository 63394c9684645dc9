"""The pid file: lists a stack's children, so that the next stack finds those that a crash left running.

An entry is written before its child is started, with the mark that the child gets, and again with the process
id: a crash in between leaves no child that the file does not know. A write that fails is reported once and
repeated at the next change; it never keeps a child from being supervised.

Process ids are reused, so an entry alone proves nothing. A process counts as a child only with the
recorded start time, or with the entry's mark in its environment.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from msctl.files import FileTooLargeError, read_trusted, write_atomically
from msctl.processes import process_table

_POLL_S = 0.02
_KILL_S = 5.0
_MAX_SIZE = 4 * 1024 * 1024
_TOLERANCE_S = 2.0
"""Start times are exact to 0.01 s relative to the boot time, but that changes when the clock is set."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A child: its process id, start time (epoch seconds), service, instance and mark.

    `pid` is 0 until the child is started.
    """

    pid: int
    created: float
    service: str
    instance: str
    mark: str


@dataclass(frozen=True, slots=True)
class Leftover:
    """Processes of one instance of an earlier stack that still run; `program` is the first one's command."""

    service: str
    instance: str
    pids: tuple[int, ...]
    program: str

    @property
    def ended(self) -> str:
        """What is said once it has been ended."""
        pids = ", ".join(map(str, self.pids))
        return f"ended what a crash left of {self.instance}: pid {pids} ({self.program})"


class PidFile:
    """The file of one stack; with `path` None, nothing is written."""

    def __init__(self, path: Path | None, report: Callable[[str], object] = lambda _text: None) -> None:
        """`report` takes a message about a write that failed."""
        self._path = path
        self._report = report
        self._entries: dict[str, Entry] = {}
        self._failing = False

    def add(self, entry: Entry) -> None:
        """Add the entry of a child, or replace the one with its mark."""
        self._entries[entry.mark] = entry
        self._write()

    def remove(self, mark: str) -> None:
        if self._entries.pop(mark, None) is not None:
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        try:
            if self._entries:
                text = json.dumps([asdict(entry) for entry in self._entries.values()])
                write_atomically(self._path, text.encode())
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            if not self._failing:
                self._failing = True
                self._report(
                    f"cannot write {self._path}: {error.strerror or error}; "
                    "after a crash the next stack would not find what is left"
                )
        else:
            self._failing = False


def start_time(pid: int) -> float:
    """The start time of a process in epoch seconds; 0 if it does not exist."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def is_process(pid: int, started: float) -> bool:
    """Whether the process with this id is the one that started at `started` (epoch seconds)."""
    found = start_time(pid)
    return found > 0 and abs(found - started) <= _TOLERANCE_S


def leftovers(path: Path) -> list[Leftover]:
    """Find the running children in an earlier stack's pid file; empty without a file.

    A process counts if it has the recorded start time (then its whole session counts) or carries the entry's
    mark: a reused process id is never taken for a child.
    """
    found = []
    entries = _read(path)
    now = process_table.read_table() if entries else process_table.ProcessTable()
    for entry in entries:
        session = now.sessions.get(entry.pid, set())
        marked = now.marks.get(entry.mark, set())
        if entry.pid > 0 and entry.pid in session and is_process(entry.pid, entry.created):
            marked = marked | session
        if marked:
            pids = tuple(sorted(marked, key=lambda pid: (pid != entry.pid, pid)))
            found.append(Leftover(entry.service, entry.instance, pids, _program(pids[0])))
    return found


def kill_leftovers(path: Path) -> list[Leftover]:
    """Kill what `leftovers` finds and remove the file; returns what was found.

    Blocks until all are gone, at most 5 s: a process may be blocked in the kernel.
    """
    found = now = leftovers(path)
    deadline = time.monotonic() + _KILL_S
    while now and time.monotonic() < deadline:
        process_table.signal_all([pid for leftover in now for pid in leftover.pids], signal.SIGKILL)
        time.sleep(_POLL_S)
        now = leftovers(path)
    with contextlib.suppress(OSError):  # a read-only folder: the entries prove nothing for a later process
        path.unlink(missing_ok=True)
    return found


def _read(path: Path) -> list[Entry]:
    with contextlib.suppress(OSError, FileTooLargeError, ValueError, TypeError):
        return [Entry(**fields) for fields in json.loads(read_trusted(path, _MAX_SIZE))]
    return []


def _program(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return " ".join(process.cmdline()) or str(process.name())
    except psutil.Error:
        return "(exited)"

"""A small file that says which children a stack has, for the next one to find what a crash left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from msctl.processes import process_table

_LOOK_AGAIN_S = 0.02
_KILL_S = 5.0
_TOLERANCE_S = 2.0
"""The time at which a process began is known to a hundredth of a second, but the system's idea of
when it booted, on which that rests, moves a little when the clock is set."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A child: its process id, when it began (epoch seconds), whose it is, and the mark it carries."""

    pid: int
    created: float
    service: str
    instance: str
    mark: str


@dataclass(frozen=True, slots=True)
class Leftover:
    """Processes of a former stack that still run: those of one instance, and what the first runs."""

    service: str
    instance: str
    pids: tuple[int, ...]
    program: str


class Ledger:
    """The file of one stack; nothing is written where `path` is None."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._entries: dict[int, Entry] = {}

    def add(self, entry: Entry) -> None:
        self._entries[entry.pid] = entry
        self._write()

    def remove(self, pid: int) -> None:
        if self._entries.pop(pid, None) is not None:
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        if not self._entries:
            self._path.unlink(missing_ok=True)
            return
        text = json.dumps([asdict(entry) for entry in self._entries.values()])
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        fresh.write_text(text)
        fresh.replace(self._path)


def created(pid: int) -> float:
    """When a process began, in epoch seconds; 0 for one that has gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def leftovers(path: Path) -> list[Leftover]:
    """What still runs of the children in a former stack's ledger; none where there is no such file.

    A process counts only if it is the recorded one (by the time it began), or of its session with
    the same mark: a process id that was given to somebody else since is never taken for ours.
    """
    found = []
    entries = _read(path)
    now = process_table.take() if entries else process_table.Census()
    for entry in entries:
        session = now.sessions.get(entry.pid, set())
        marked = now.marks.get(entry.mark, set())
        if entry.pid in session and abs(created(entry.pid) - entry.created) <= _TOLERANCE_S:
            marked = marked | session
        if marked:
            pids = tuple(sorted(marked, key=lambda pid: (pid != entry.pid, pid)))
            found.append(Leftover(entry.service, entry.instance, pids, _program(pids[0])))
    return found


def end_leftovers(path: Path) -> list[Leftover]:
    """Kill what `leftovers` finds, and remove the file; what was found.

    Blocks until nothing is left, but no longer than 5 s: a process may hang in the kernel.
    """
    found = now = leftovers(path)
    deadline = time.monotonic() + _KILL_S
    while now and time.monotonic() < deadline:
        process_table.signal_all([pid for leftover in now for pid in leftover.pids], signal.SIGKILL)
        time.sleep(_LOOK_AGAIN_S)
        now = leftovers(path)
    path.unlink(missing_ok=True)
    return found


def _read(path: Path) -> list[Entry]:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return [Entry(**fields) for fields in json.loads(path.read_text())]
    return []


def _program(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return " ".join(process.cmdline()) or str(process.name())
    except psutil.Error:
        return "it has just ended"

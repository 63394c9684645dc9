"""The process table: process ids by session and by mark.

Each child leads its own session. Its descendants stay in that session or, if they create a new one as daemons
do, inherit the mark in their environment. A descendant that does both, a new session and a cleared
environment, is found by orphans.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

MARK = "_MSCTL_RUN"
"""The environment variable with the mark: it identifies one start of one instance."""
HELPER = "helper"
"""The mark of the stack's own helpers."""


@dataclass(frozen=True, slots=True)
class ProcessTable:
    """A snapshot of the running processes: ids by session and by mark."""

    sessions: dict[int, set[int]] = field(default_factory=dict)
    marks: dict[str, set[int]] = field(default_factory=dict)

    def family(self, leader: int, mark: str, others: Iterable[int] = ()) -> set[int]:
        """The processes in `leader`'s session or those of `others`, or with `mark`, without the leader."""
        found = self.sessions.get(leader, set()) | self.marks.get(mark, set())
        for session in others:
            found |= self.sessions.get(session, set())
        return found - {leader}


def sessions() -> dict[int, set[int]]:
    """Process ids by session."""
    found: dict[int, set[int]] = defaultdict(set)
    for pid in psutil.pids():
        try:
            found[os.getsid(pid)].add(pid)
        except OSError:
            continue
    return found


def read_table() -> ProcessTable:
    """Read the process table now, without zombies."""
    marks: dict[str, set[int]] = defaultdict(set)
    by_session: dict[int, set[int]] = defaultdict(set)
    for session, pids in sessions().items():
        for pid in pids:
            environment = _environment(pid)
            if environment is None:
                continue
            by_session[session].add(pid)
            if (mark := _mark(environment)) is not None:
                marks[mark].add(pid)
    return ProcessTable(by_session, marks)


class ProcessTableReader:
    """Reads the process table for several tasks at once: those that ask in one loop iteration share it."""

    def __init__(self) -> None:
        self._next: asyncio.Task[ProcessTable] | None = None

    async def fresh(self) -> ProcessTable:
        """A table that is read after this call."""
        if self._next is None:
            self._next = asyncio.create_task(self._read())
        return await asyncio.shield(self._next)

    async def _read(self) -> ProcessTable:
        await asyncio.sleep(0)  # other tasks of this loop iteration can join
        self._next = None
        return read_table()


def session_of(pid: int) -> int | None:
    """The session of a process, None if it does not exist."""
    try:
        return os.getsid(pid)
    except OSError:
        return None


def mark_of(pid: int) -> str | None:
    """The mark in the process's environment: it descends from a stack's child, or helps a stack."""
    return _mark(_environment(pid) or b"")


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def signal_group(leader: int, number: signal.Signals) -> None:
    """Send a signal to a process group, if it still exists."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        return


def _environment(pid: int) -> bytes | None:
    """A process's environment: empty if it cannot be read, None for no process or a zombie."""
    proc = Path(f"/proc/{pid}")
    try:
        environment = (proc / "environ").read_bytes()
        if environment:
            return environment
        state = (proc / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except PermissionError:
        return b""
    except OSError:
        return _environment_without_proc(pid)
    return None if state[0] == "Z" else b""


def _environment_without_proc(pid: int) -> bytes | None:
    """`_environment` on a system without /proc."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return b"\0".join(f"{key}={value}".encode() for key, value in process.environ().items())
    except psutil.NoSuchProcess:
        return None
    except (psutil.Error, OSError):
        return b""


def _mark(environment: bytes) -> str | None:
    prefix = f"{MARK}=".encode()
    start = 0 if environment.startswith(prefix) else environment.find(b"\0" + prefix) + 1
    if start == 0 and not environment.startswith(prefix):
        return None
    return environment[start + len(prefix) :].partition(b"\0")[0].decode(errors="replace")

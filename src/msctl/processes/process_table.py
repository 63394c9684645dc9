"""Which processes belong to whom: by session, and by the mark that every child carries.

A child leads a session of its own. What it forks stays in that session, or, where it makes itself
a new one (a daemon does), still carries the mark in its environment, unless it was wiped.
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
"""The variable that says which start of which instance a process descends from."""


@dataclass(frozen=True, slots=True)
class Census:
    """The processes of one moment: ids by session, and by mark."""

    sessions: dict[int, set[int]] = field(default_factory=dict)
    marks: dict[str, set[int]] = field(default_factory=dict)

    def family(self, leader: int, mark: str) -> set[int]:
        """The session of `leader` and all that carry `mark`, the leader left out."""
        return (self.sessions.get(leader, set()) | self.marks.get(mark, set())) - {leader}


def sessions() -> dict[int, set[int]]:
    """Process ids by session."""
    found: dict[int, set[int]] = defaultdict(set)
    for pid in psutil.pids():
        try:
            found[os.getsid(pid)].add(pid)
        except OSError:
            continue
    return found


def take() -> Census:
    """Who is there now; zombies are not."""
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
    return Census(by_session, marks)


class Censuses:
    """Takes censuses for many at once: those who ask while one is due share it."""

    def __init__(self) -> None:
        self._next: asyncio.Task[Census] | None = None

    async def fresh(self) -> Census:
        """One that is taken after this call began."""
        if self._next is None:
            self._next = asyncio.create_task(self._take())
        return await asyncio.shield(self._next)

    async def _take(self) -> Census:
        await asyncio.sleep(0)  # let others who ask in this round of the loop join
        self._next = None
        return take()


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def signal_group(leader: int, number: signal.Signals) -> None:
    """Send a signal to a process group, if there is anybody left in it."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        return


def _environment(pid: int) -> bytes | None:
    """A process's environment; empty where it may not be read, None where there is no process
    (a zombie's is empty too, and it holds nothing: it is told apart by its state)."""
    proc = Path(f"/proc/{pid}")
    try:
        environment = (proc / "environ").read_bytes()
        if environment:
            return environment
        state = (proc / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except PermissionError:
        return b""
    except OSError:
        return _environment_elsewhere(pid)
    return None if state[0] == "Z" else b""


def _environment_elsewhere(pid: int) -> bytes | None:
    """The same where there is no /proc."""
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

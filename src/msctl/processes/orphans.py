"""Orphans: processes whose parent exited, which the kernel makes children of this process.

A stack is a child subreaper (prctl(2), PR_SET_CHILD_SUBREAPER; PID 1 of a container is one anyway). So a
daemon that leaves its session and clears its environment, and with it the mark, is still found: among the
children of the stack. And orphans that exit are reaped, which nobody else would do.

Reaping must not take the exit status of a process that this program, or a hosted service, started itself and
waits for. Such a process is in our session or leads its own; it cannot join another. So a child whose
session is neither ours nor its own is an orphan for certain. One that leads a session may be either, and is
left for ten minutes to whoever waits for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from msctl.clock import AsyncClock
from msctl.processes.process_table import mark_of

REAP_EVERY_S = 2.0
UNCLAIMED_S = 600.0
_PR_SET_CHILD_SUBREAPER = 36

_leaders: set[int] = set()
"""Children that this program watches and reaps itself."""


class Stat(NamedTuple):
    """A process as in /proc/PID/stat; `started` is in clock ticks since the boot."""

    pid: int
    name: str
    state: str
    session: int
    started: int


def become_subreaper() -> bool:
    """Become the parent of orphaned descendants; returns False on a system without that."""
    if sys.platform != "linux":
        return False
    with contextlib.suppress(OSError, AttributeError):
        done: int = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        return done == 0
    return False


def own(pid: int) -> None:
    """Leave this child to its owner."""
    _leaders.add(pid)


def disown(pid: int) -> None:
    _leaders.discard(pid)


async def reap_orphans(clock: AsyncClock) -> None:
    """Reap orphans that have exited, until cancelled."""
    since: dict[int, float] = {}
    while True:
        await clock.sleep(REAP_EVERY_S)
        reap(since, clock.monotonic())


def reap(since: dict[int, float], now: float) -> None:
    """Reap the orphans that have exited. `since` remembers those that may be another's, for the next call."""
    seen = {}
    for pid in children(os.getpid()):
        if pid in _leaders:
            continue
        found = stat(pid)
        if found is None or found.state != "Z" or found.session == os.getsid(0):
            continue
        if found.session == pid:
            seen[pid] = since.get(pid, now)
            if now - seen[pid] < UNCLAIMED_S:
                continue
        reap_one(pid)
    since.clear()
    since.update(seen)


def reap_one(pid: int) -> None:
    """Reap a child if it has exited."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def daemons_of(leader: int, mark: str) -> set[int]:
    """The sessions of the daemons that an exited, unreaped child left as children of this process.

    A daemon bears the name of its program, is younger than it, is not in our session, and has no mark or
    still its own: a program that sets its title overwrites it a moment later.
    """
    main = stat(leader)
    if main is None:
        return set()
    found = set()
    for pid in children(os.getpid()):
        orphan = None if pid in _leaders else stat(pid)
        if (
            orphan is not None
            and orphan.state != "Z"
            and orphan.started >= main.started
            and orphan.session != os.getsid(0)
        ):
            if orphan.session == leader:
                found.add(pid)  # it may be about to make a session, which then has its id
            elif orphan.name == main.name and mark_of(pid) in (None, mark):
                found.add(orphan.session)
    return found


def sessions_below(leader: int) -> set[int]:
    """The sessions of the descendants of a process that runs, whatever they did to their environment."""
    found: set[int] = set()
    todo, seen = [leader], {leader}
    while todo:
        for pid in children(todo.pop()):
            if pid not in seen and (process := stat(pid)) is not None:
                seen.add(pid)
                todo.append(pid)
                found.add(process.session)
    return found - {leader}


def children(pid: int) -> Iterator[int]:
    """The children of a process, zombies included; none where /proc does not tell."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return
    for thread in threads:
        with contextlib.suppress(OSError):
            yield from map(int, (thread / "children").read_text().split())


def stat(pid: int) -> Stat | None:
    """The process, or None if there is none."""
    try:
        head, _, tail = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
    except OSError:
        return None
    fields = tail.split()
    return Stat(pid, head.partition("(")[2], fields[0], int(fields[3]), int(fields[19]))

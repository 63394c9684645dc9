"""Stops a running stack from another process."""

from __future__ import annotations

import signal
import sys
import time

from msctl.cli.output.show_waiting import showing_waiting
from msctl.cli.output.waiting import STOPPING
from msctl.control.client import ControlClient, UnreachableError
from msctl.control.paths import StackLock, StackPaths, is_locked
from msctl.control.record import read_record, signal_stack
from msctl.errors import NotRunningError, TimedOutError

STOP_TIMEOUT_S = 30.0
GRACE_S = 5.0
"""Time on top of the stop timeout before the stack is killed."""
_POLL_S = 0.01


def stop_stack(client: ControlClient, name: str, paths: StackPaths, timeout: float | None) -> None:
    """Stop the stack and wait until its process has exited; kill it after the timeout (seconds).

    Raises TimedOutError if even that does not end it.
    """
    try:
        client.shutdown(timeout)
    except (NotRunningError, TimedOutError, UnreachableError):
        # It holds the lock but does not answer: before it listens, after it closed, or blocked.
        _signal(paths, signal.SIGTERM)
    with showing_waiting(client, states=STOPPING):
        gone = _wait_gone(paths, (STOP_TIMEOUT_S if timeout is None else timeout) + GRACE_S)
    if gone:
        return
    sys.stderr.write("the stack did not stop in time; killing it\n")
    _signal(paths, signal.SIGKILL)
    if not _wait_gone(paths, GRACE_S):
        raise TimedOutError(
            f"the stack of project {name!r} cannot be stopped",
            hint=f"find the process that holds {paths.lock}",
        )


def end_leftovers(paths: StackPaths) -> list[str]:
    """End the processes that a killed stack has left, and say so; nothing while a stack runs."""
    if not paths.children.exists():
        return []
    from msctl.processes.pid_file import kill_leftovers  # imports psutil, which is seldom needed here

    lock = StackLock.acquire(paths)  # a stack that begins ends them itself
    if lock is None:
        return []
    try:
        return [left.ended for left in kill_leftovers(paths.children)]
    finally:
        lock.close()


def _wait_gone(paths: StackPaths, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_locked(paths):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _signal(paths: StackPaths, number: signal.Signals) -> None:
    record = read_record(paths)
    if record is not None:
        signal_stack(paths, record, number)

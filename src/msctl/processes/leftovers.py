"""Processes that hosted applications started and left: multiprocessing's workers, subprocesses.

A stack's commands are ended with their services; these belong to nobody, and would outlive the stack.
What made a session of its own has left on purpose, as daemons do: epmd, which other RabbitMQs use too.
multiprocessing's resource tracker ignores SIGTERM, and ends by itself after the last of them.
"""

from __future__ import annotations

import os

import psutil

_TRACKER = "multiprocessing.resource_tracker"
GRACE_S = 2.0
"""How long they may take after SIGTERM."""


def end_leftovers() -> None:
    """End the descendants of this process in its session. Blocks."""
    try:
        left = psutil.Process().children(recursive=True)
    except psutil.Error:
        return
    ending = []
    for process in left:
        try:
            if process.status() == psutil.STATUS_ZOMBIE or os.getsid(process.pid) != os.getsid(0):
                continue
            if _TRACKER not in " ".join(process.cmdline()):
                process.terminate()
                ending.append(process)
        except (psutil.Error, OSError):
            continue
    _, alive = psutil.wait_procs(ending, GRACE_S)
    for process in alive:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(alive, GRACE_S)

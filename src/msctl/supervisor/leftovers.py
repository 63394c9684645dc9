"""What a crashed stack left running is found, named and ended before the next one starts."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil

from msctl.supervisor.ledger import Leftover, leftovers

GONE_WITHIN = 5.0


def end_leftovers(ledger: Path) -> list[str]:
    """Kill the children of a former stack that still run; returns a sentence that names each.

    Such a stack has ended without its watchdog (both were killed), so nobody is left to ask them.
    Blocks, for at most a few seconds, and only where there is something to end.
    """
    said = []
    for left in leftovers(ledger):
        said.append(_sentence(left))
        for pid in left.pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        processes = []
        for pid in left.pids:
            with suppress(psutil.NoSuchProcess):
                processes.append(psutil.Process(pid))
        psutil.wait_procs(processes, GONE_WITHIN)
    ledger.unlink(missing_ok=True)
    return said


def _sentence(left: Leftover) -> str:
    pids = ", ".join(map(str, left.pids))
    return f"ended what a crash left of {left.instance}: pid {pids} ({left.program})"

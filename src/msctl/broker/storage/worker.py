"""Does what waits for the disk, one job after the other, beside the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

Job = Callable[[], None]


class Worker(Protocol):
    """Where jobs are done in their order."""

    def put(self, job: Job) -> None:
        """Do a job after those before it."""
        ...

    def finish(self) -> None:
        """Return when all jobs are done; none may follow."""
        ...


class ThreadWorker:
    """A thread."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="broker-log", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        self._jobs.put(job)

    def finish(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

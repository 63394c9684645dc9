"""The threads that run a WSGI application's requests.

Unlike those of concurrent.futures they are daemons: a request that hangs never keeps the process from
ending.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue

_Job = tuple[asyncio.Future[None], contextvars.Context, Callable[[], None]]


class DaemonThreads:
    """At most `size` threads, started as they are needed."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0

    def run(self, job: Callable[[], None]) -> asyncio.Future[None]:
        """Run `job` in a thread, in a copy of this context; called on the loop.

        The future is done when the job has ended. Cancelled before, the job is not begun.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.put((future, contextvars.copy_context(), job))
        if not self._idle.acquire(blocking=False) and self._count < self._size:
            self._count += 1
            name = f"{self._name}-{self._count}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """Let the threads end after what they are doing."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, context, call = job
            loop = future.get_loop()
            error: BaseException | None = None
            if not future.cancelled():
                try:
                    context.run(call)
                except BaseException as raised:  # noqa: BLE001 - passed to whoever waits
                    error = raised
            del job, context, call
            try:
                loop.call_soon_threadsafe(_resolve, future, error)
            except RuntimeError:
                return  # the loop is closed
            del future, error
            self._idle.release()


def _resolve(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)

"""A deadline for the task that runs a request, cheap to move on.

Moving it is an assignment; the one timer looks again when it fires. Knows asyncio and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType


class DeadlineError(Exception):
    """The deadline passed; `stage` says what was being waited for."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.stage = stage


class Deadline:
    """A context manager that turns the cancellation it causes into DeadlineError.

    `stage` is what the request waits for at present. `progress`, where set, is asked when the time
    is over: as long as what it returns has changed since last time, the deadline moves on by
    `allowance` seconds. An allowance of 0 waits for ever.
    """

    __slots__ = (
        "_at",
        "_cancelling",
        "_handle",
        "_loop",
        "_seen",
        "_task",
        "allowance",
        "expired",
        "progress",
        "stage",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._handle: asyncio.TimerHandle | None = None
        self._at = 0.0
        self._seen = 0
        self.allowance = 0.0
        self.progress: Callable[[], int] | None = None
        self.stage = ""
        self.expired = False

    def __enter__(self) -> Deadline:
        self._task = task = asyncio.current_task()
        self._cancelling = 0 if task is None else task.cancelling()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        task, self._task = self._task, None
        self.progress = None
        if not self.expired or task is None:
            return
        if (
            task.uncancel() <= self._cancelling
            and kind is not None
            and issubclass(kind, asyncio.CancelledError)
        ):
            raise DeadlineError(self.stage) from error

    def move(self, seconds: float, stage: str | None = None) -> None:
        """The task now has `seconds` from here."""
        if stage is not None:
            self.stage = stage
        self.allowance = seconds
        if not seconds or self._task is None:
            self._at = float("inf")
            return
        self._at = at = self._loop.time() + seconds
        handle = self._handle
        if handle is None or at < handle.when():
            if handle is not None:
                handle.cancel()
            self._handle = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._handle = None
        if self._task is None or self._at == float("inf"):
            return
        if self._loop.time() < self._at - 1e-4:
            self._handle = self._loop.call_at(self._at, self._look)
            return
        if self.progress is not None:
            now = self.progress()
            if now != self._seen:
                self._seen = now
                self.move(self.allowance)
                return
        self.expired = True
        self._task.cancel()

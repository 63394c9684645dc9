"""Deadlines of requests: cheap to set and to extend.

One timer of the loop checks all deadlines, so that each costs two set operations instead of a timer.
A deadline therefore fires up to TICK seconds late. An expired deadline cancels its task, and
`__exit__` turns that cancellation, but no other, into DeadlineError. Imports only asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

TICK = 0.05
CLOSING_S = 5.0
_NEVER = float("inf")


class DeadlineError(Exception):
    """The deadline passed; `stage` names what the request was waiting for."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.stage = stage


class Progress(Protocol):
    """An exchange whose progress extends its deadline."""

    def progress(self) -> int:
        """Return a number that changes while bytes are transferred."""
        ...


class DeadlineTimer:
    """Checks the deadlines of a loop every TICK seconds, while there are any."""

    __slots__ = ("active", "loop", "now", "running")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.running = False
        self.active: set[Deadline] = set()
        self.now = loop.time

    def run(self) -> None:
        """Start the timer."""
        self.running = True
        self.loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        if not self.active:
            self.running = False
            return
        now = self.now()
        for deadline in [deadline for deadline in self.active if deadline.at <= now]:
            deadline.check()
        self.loop.call_later(TICK, self._tick)


class Deadline:
    """A context manager that cancels its task at a time and turns the cancellation into DeadlineError.

    `stage` names what the request waits for. If `progress` is set and its number has changed when the
    time is over, the deadline is extended by `allowance` seconds instead. An allowance of 0 is no
    deadline. If `closing` is set, it is called when the time is over, and the task is cancelled only if it
    has not ended CLOSING_S later.
    """

    __slots__ = (
        "_cancelling",
        "_seen",
        "_task",
        "_timer",
        "allowance",
        "at",
        "closing",
        "expired",
        "progress",
        "stage",
    )

    def __init__(self, timer: DeadlineTimer) -> None:
        self._timer = timer
        self._task: asyncio.Task[object] | None = None
        self._seen = 0
        self.at = _NEVER
        self.allowance = 0.0
        self.progress: Progress | None = None
        self.closing: Callable[[], object] | None = None
        self.stage = ""
        self.expired = False

    def __enter__(self) -> Deadline:
        # Without the loop, Python 3.11 calls getpid() to find it.
        self._task = task = asyncio.current_task(self._timer.loop)
        self._cancelling = 0 if task is None else task.cancelling()
        timer = self._timer
        timer.active.add(self)
        if not timer.running:
            timer.run()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._timer.active.discard(self)
        task, self._task = self._task, None
        self.progress = self.closing = None
        if not self.expired or task is None:
            return
        self.expired = False
        if (
            task.uncancel() <= self._cancelling
            and kind is not None
            and issubclass(kind, asyncio.CancelledError)
        ):
            raise DeadlineError(self.stage) from error

    @property
    def now(self) -> Callable[[], float]:
        """The clock of this deadline."""
        return self._timer.now

    def extend(self, seconds: float, stage: str | None = None) -> None:
        """Allow `seconds` from now, for `stage` if given."""
        if stage is not None:
            self.stage = stage
        self.allowance = seconds
        self.at = self._timer.now() + seconds if seconds else _NEVER

    def check(self) -> None:
        """Cancel the task, unless there was progress."""
        if self._task is None or self.expired:
            return
        if self.progress is not None:
            seen = self.progress.progress()
            if seen != self._seen:
                self._seen = seen
                self.extend(self.allowance)
                return
        if self.closing is not None:
            closing, self.closing, self.progress = self.closing, None, None
            self.extend(CLOSING_S)
            closing()
            return
        self.interrupt(self.stage)

    def interrupt(self, stage: str) -> None:
        """End the task's wait now, as if the time for `stage` were over."""
        if self._task is not None and not self.expired:
            self.stage = stage
            self.expired = True
            self._task.cancel()

"""Deadlines for the tasks that run requests, cheap to set and to move on.

One timer looks at all of them, so a deadline costs a request two set operations instead of a timer of
its own; it fires up to TICK seconds late. Knows asyncio and nothing else.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol

TICK = 0.05
_NEVER = float("inf")


class DeadlineError(Exception):
    """The deadline passed; `stage` says what was being waited for."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.stage = stage


class Moving(Protocol):
    """Something that makes progress, or does not."""

    def moved(self) -> int:
        """A number that changes as long as it does."""
        ...


class Watch:
    """Looks after the deadlines of a loop; its timer runs only while there are any."""

    __slots__ = ("active", "loop", "now", "running")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.running = False
        self.active: set[Deadline] = set()
        self.now = loop.time

    def run(self) -> None:
        """Begin to look after them."""
        self.running = True
        self.loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        if not self.active:
            self.running = False
            return
        now = self.now()
        for deadline in [deadline for deadline in self.active if deadline.at <= now]:
            deadline.look()
        self.loop.call_later(TICK, self._tick)


class Deadline:
    """A context manager that turns the cancellation it causes into DeadlineError.

    `stage` is what the request waits for at present. `watched`, where set, is asked when the time is
    over: as long as what it has moved has changed since last time, the deadline moves on by
    `allowance` seconds. An allowance of 0 waits for ever.
    """

    __slots__ = ("_cancelling", "_seen", "_task", "_watch", "allowance", "at", "expired", "stage", "watched")

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._task: asyncio.Task[object] | None = None
        self._seen = 0
        self.at = _NEVER
        self.allowance = 0.0
        self.watched: Moving | None = None
        self.stage = ""
        self.expired = False

    def __enter__(self) -> Deadline:
        # Without the loop, Python 3.11 asks the system for the process's id to find it.
        self._task = task = asyncio.current_task(self._watch.loop)
        self._cancelling = 0 if task is None else task.cancelling()
        watch = self._watch
        watch.active.add(self)
        if not watch.running:
            watch.run()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._watch.active.discard(self)
        task, self._task = self._task, None
        self.watched = None
        if not self.expired or task is None:
            return
        self.expired = False
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
        self.at = self._watch.now() + seconds if seconds else _NEVER

    def look(self) -> None:
        """The time is over: is it really?"""
        if self._task is None or self.expired:
            return
        if self.watched is not None:
            seen = self.watched.moved()
            if seen != self._seen:
                self._seen = seen
                self.move(self.allowance)
                return
        self.expired = True
        self._task.cancel()

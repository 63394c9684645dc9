"""A thread that writes what the loop hands over, so that a slow, locked or full disk delays nobody.

Invariant: the owner's waiting state is read and changed only while the writer's lock is held (`changing`,
`take`), and only for as long as a few assignments take. `write` and `finish` run in the thread without it.
The thread begins with the first change, and ends after `close` once `take` has nothing left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from msctl.clock import Clock

REPORT_EVERY_S = 60.0

T = TypeVar("T")


class BackgroundWriter(Generic[T]):
    """Runs `write` with all that waits, again and again, then `finish`."""

    def __init__(
        self,
        name: str,
        take: Callable[[], T | None],
        write: Callable[[T], object],
        finish: Callable[[], object],
    ) -> None:
        """`take` returns and clears what waits, None for nothing; `write` and `finish` do not raise."""
        self._name = name
        self._take = take
        self._write = write
        self._finish = finish
        self._closing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def changing(self) -> Iterator[bool]:
        """Hold the lock to add what is to be written; yields False once the writer closes."""
        with self._changed:
            yield not self._closing
            if self._closing:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Have the rest written, and wait for that for at most `timeout` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                while (waiting := self._take()) is None and not self._closing:
                    self._changed.wait()
            if waiting is None:
                break
            self._write(waiting)
        self._finish()


class Reports:
    """Limits what is said of writes that fail to once a minute, for each subject."""

    def __init__(self, clock: Clock, report: Callable[[str], object]) -> None:
        self._clock = clock
        self._report = report
        self._said: dict[str, float] = {}

    def say(self, subject: str, text: str) -> None:
        now = self._clock.monotonic()
        before = self._said.get(subject)
        if before is None or now - before >= REPORT_EVERY_S:
            self._said[subject] = now
            self._report(text)

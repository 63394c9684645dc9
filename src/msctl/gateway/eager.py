"""Requests that begin together, and go on side by side until one of them has to wait.

Most requests are answered before anything has to be waited for. To run each as a task costs it a task
and two turns of the loop; and what one of them executes from its beginning to its end is more code than
the first caches of a processor hold, so each would have to fetch all of it again. Here all that begin in
one turn of the loop share that: each stage is run for one after the other, on spare tasks that are used
again. Knows asyncio and nothing else.
"""

from __future__ import annotations

import asyncio
import sys
import types
from asyncio.tasks import _enter_task, _leave_task  # documented under "Extending asyncio", for such as this
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from typing import Any

Steps = Coroutine[Any, Any, None]

STAGES = 3
"""How often a coroutine is resumed in the turn in which it begins."""
ABREAST = 32
"""How many go on side by side in one turn, and spare tasks that are kept for them. With more of them it is
what they work on that no longer fits into the caches."""


_abreast = False
"""Whether coroutines are being run side by side now."""


@types.coroutine
def give_way() -> Generator[None, None, None]:
    """Let the others that began in the same turn come as far as this. Nothing else runs meanwhile; and
    who goes on as a task, because it had to wait, does not wait here."""
    if _abreast:
        yield


@types.coroutine
def _pause() -> Generator[None, None, None]:
    yield


class Eager:
    """Runs coroutines up to where they first wait, and what is left of them then as tasks.

    To a coroutine it looks as if it were a task from its beginning: it has a context of its own, and
    `asyncio.current_task()` is the same before and after it waits, and nobody else's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._begun: list[Steps] = []
        self._spares: list[_Lane] = []
        self._closed = False

    def start(self, steps: Steps) -> None:
        """Begin `steps` in the loop's next turn, or a later one if many are before it.

        What it raises is reported to the loop's exception handler, as a task's is that nobody asks.
        """
        if not self._begun:
            self._loop.call_soon(self._run)
        self._begun.append(steps)

    def close(self) -> None:
        """Let go of the spare tasks. What runs goes on; what is started later leaves nothing behind."""
        self._closed = True
        while self._spares:
            self._spares.pop().dismiss()

    def _run(self) -> None:
        global _abreast
        begun = self._begun[:ABREAST]
        del self._begun[:ABREAST]
        if self._begun:
            self._loop.call_soon(self._run)
        lanes = [self._lane(steps) for steps in begun]
        going = lanes
        _abreast = True
        try:
            for _ in range(STAGES):
                gave_way = []
                for lane in going:
                    if lane.step():
                        gave_way.append(lane)
                    elif not lane.carries:
                        self._keep(lane)
                going = gave_way
        finally:
            _abreast = False
            for lane in lanes:
                if lane.going:
                    lane.carry_on(None)

    def _lane(self, steps: Steps) -> _Lane:
        spares = self._spares
        while spares:
            lane = spares.pop()
            if not lane.task.done():
                break
        else:
            lane = _Lane(self._loop)
        lane.begin(steps)
        return lane

    def _keep(self, lane: _Lane) -> None:
        if lane.unmarked() and not self._closed:
            self._spares.append(lane)
        else:
            lane.dismiss()


class _Lane:
    """A spare task: a coroutine runs as if it were this task, which carries on for it if it has to wait."""

    __slots__ = (
        "_awaited",
        "_before",
        "_call",
        "_context",
        "_known",
        "_loop",
        "_steps",
        "carries",
        "going",
        "task",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = copy_context()
        self._before = self._context.copy()
        self._call: asyncio.Future[None] = loop.create_future()
        self._steps: Steps | None = None
        self._awaited: object = None
        self._known = 0
        self.going = False
        self.carries = False
        waiting = self._wait()
        # It has begun when its task gets it: a cancellation before the task's own first step finds it.
        waiting.send(None)
        self.task = loop.create_task(waiting, context=self._context)

    def begin(self, steps: Steps) -> None:
        self._steps = steps
        self._known = sys.getrefcount(self.task)
        self.going = True

    def step(self) -> bool:
        """Resume the coroutine; whether it gave way to the others."""
        loop, task, steps = self._loop, self.task, self._steps
        if steps is None:
            raise RuntimeError("there is nothing to be resumed")
        self.going = False
        _enter_task(loop, task)
        try:
            awaited = self._context.run(steps.send, None)
        except (StopIteration, asyncio.CancelledError):
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, it is nobody else's
            loop.call_exception_handler(
                {"message": "a coroutine failed in its first turn", "exception": error, "task": task}
            )
            return False
        except BaseException:
            self.dismiss()
            raise
        finally:
            _leave_task(loop, task)
        if awaited is None:
            self.going = True
            return True
        self.carry_on(awaited)
        return False

    def carry_on(self, awaited: object) -> None:
        """Wait for what the coroutine waits for, and go on with it, as a task."""
        self.going = False
        self.carries = True
        self._awaited = awaited
        self._wake()

    def unmarked(self) -> bool:
        """The coroutine is over: whether it left no mark on the task for the next one to see.

        Who still holds the task could cancel it; what was put into its context would be found there.
        """
        self._steps = None
        if self.task.cancelling() or sys.getrefcount(self.task) != self._known:
            return False
        try:
            return self._context == self._before
        except Exception:  # noqa: BLE001 - a value that cannot be compared is not what was there before
            return False

    def dismiss(self) -> None:
        """There is nothing to be carried on: the task ends."""
        self._steps = None
        self._wake()

    def _wake(self) -> None:
        if not self._call.done():
            self._call.set_result(None)

    async def _wait(self) -> None:
        error: BaseException | None = None
        try:
            await _pause()
            await self._call
        except asyncio.CancelledError as cancelled:
            if not self.carries:
                raise
            error = cancelled
        steps, awaited = self._steps, self._awaited
        self._steps = self._awaited = None
        if steps is not None:
            await _rest(steps, awaited, error)


@types.coroutine
def _rest(steps: Steps, awaited: Any, error: BaseException | None) -> Generator[Any, None, None]:
    """The steps after those of the first turn, of which `awaited` came, as if the task had taken all.

    `error` is what was thrown into the task in between: a cancellation reaches what is waited for, too.
    """
    if error is not None and awaited is not None:
        awaited.cancel()
    try:
        while True:
            if error is None:
                try:
                    yield awaited
                except BaseException as thrown:  # noqa: BLE001 - it goes on to where it belongs
                    error = thrown
            if error is None:
                awaited = steps.send(None)
            else:
                thrown_in, error = error, None
                awaited = steps.throw(thrown_in)
    except StopIteration:
        return

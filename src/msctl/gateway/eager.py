"""Starts the requests that arrive in one turn of the event loop as a batch, without a task for each.

Most requests finish without waiting for anything. A task for each costs two turns of the loop; running
each from start to end evicts the processor's first-level caches, because one request executes more
code than they hold. A batch avoids both: coroutines run stage by stage, the first stage of all, then
the second stage of all, on tasks that are reused.

How it works. A `_SpareTask` is an asyncio task suspended on a future. A coroutine runs "as" that task:
it is stepped inside `_enter_task`/`_leave_task` and in the task's context, so `current_task()` is
correct. If the coroutine finishes, the task was never woken and is used again. If the coroutine waits
for something, the task is woken and takes it over (`_resume`).

Invariants: a coroutine has the same `current_task()` and context before and after it first waits; a
task is reused only if the coroutine left no trace on it: no cancellation, no reference that outlives
the request, no changed context variable (`reusable`). `yield_to_batch` suspends only while the batch
runs, so nothing else runs between two stages. Imports only asyncio.
"""

from __future__ import annotations

import asyncio
import sys
import types
from asyncio.tasks import _enter_task, _leave_task  # documented in "Extending asyncio"
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from typing import Any

Steps = Coroutine[Any, Any, None]

STAGES = 3
"""How often a coroutine is resumed in the turn in which it starts."""
BATCH_SIZE = 32
"""Coroutines that one batch runs, and spare tasks kept for them. With more, their data no longer fits
into the caches."""


_batch_running = False
"""Whether a batch is running now."""


@types.coroutine
def yield_to_batch() -> Generator[None, None, None]:
    """Let the other coroutines of the batch reach this stage; return at once outside a batch."""
    if _batch_running:
        yield


@types.coroutine
def _pause() -> Generator[None, None, None]:
    yield


class Eager:
    """Runs coroutines until they first wait, and the rest of them as tasks.

    A coroutine has a context of its own and one `asyncio.current_task()` for its whole life.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: list[Steps] = []
        self._spares: list[_SpareTask] = []
        self._closed = False

    def start(self, steps: Steps) -> None:
        """Start `steps` in the loop's next turn, or in a later one if the batch is full.

        An exception is reported to the loop's exception handler.
        """
        if not self._queue:
            self._loop.call_soon(self._run)
        self._queue.append(steps)

    def close(self) -> None:
        """End the spare tasks. What runs is not affected; what starts later keeps no spare task."""
        self._closed = True
        while self._spares:
            self._spares.pop().dismiss()

    def _run(self) -> None:
        global _batch_running
        batch = self._queue[:BATCH_SIZE]
        del self._queue[:BATCH_SIZE]
        if self._queue:
            self._loop.call_soon(self._run)
        tasks = [self._take_spare(steps) for steps in batch]
        running = tasks
        _batch_running = True
        try:
            for _ in range(STAGES):
                yielded = []
                for spare in running:
                    if spare.step():
                        yielded.append(spare)
                    elif not spare.handed_over:
                        self._keep(spare)
                running = yielded
        finally:
            _batch_running = False
            for spare in tasks:
                if spare.suspended:
                    spare.hand_over(None)

    def _take_spare(self, steps: Steps) -> _SpareTask:
        spares = self._spares
        while spares:
            spare = spares.pop()
            if not spare.task.done():
                break
        else:
            spare = _SpareTask(self._loop)
        spare.begin(steps)
        return spare

    def _keep(self, spare: _SpareTask) -> None:
        if spare.reusable() and not self._closed:
            self._spares.append(spare)
        else:
            spare.dismiss()


class _SpareTask:
    """A suspended task as which a coroutine runs, and which takes the coroutine over if it waits."""

    __slots__ = (
        "_awaited",
        "_context",
        "_loop",
        "_original_context",
        "_references",
        "_steps",
        "_woken",
        "handed_over",
        "suspended",
        "task",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = copy_context()
        self._original_context = self._context.copy()
        self._woken: asyncio.Future[None] = loop.create_future()
        self._steps: Steps | None = None
        self._awaited: object = None
        self._references = 0
        self.suspended = False
        self.handed_over = False
        waiting = self._wait()
        # Started before the task gets it, so that a cancellation before the task's first step is caught.
        waiting.send(None)
        self.task = loop.create_task(waiting, context=self._context)

    def begin(self, steps: Steps) -> None:
        self._steps = steps
        self._references = sys.getrefcount(self.task)
        self.suspended = True

    def step(self) -> bool:
        """Resume the coroutine; return whether it yielded to the batch."""
        loop, task, steps = self._loop, self.task, self._steps
        if steps is None:
            raise RuntimeError("no coroutine to resume")
        self.suspended = False
        _enter_task(loop, task)
        try:
            awaited = self._context.run(steps.send, None)
        except (StopIteration, asyncio.CancelledError):
            return False
        except Exception as error:  # noqa: BLE001 - affects this coroutine only
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
            self.suspended = True
            return True
        self.hand_over(awaited)
        return False

    def hand_over(self, awaited: object) -> None:
        """Hand the coroutine, which waits for `awaited`, over to the task."""
        self.suspended = False
        self.handed_over = True
        self._awaited = awaited
        self._wake()

    def reusable(self) -> bool:
        """Return whether the finished coroutine left no trace on the task.

        Code that still holds the task could cancel it; the next coroutine would see context variables.
        """
        self._steps = None
        if self.task.cancelling() or sys.getrefcount(self.task) != self._references:
            return False
        try:
            return self._context == self._original_context
        except Exception:  # noqa: BLE001 - a value that cannot be compared counts as changed
            return False

    def dismiss(self) -> None:
        """End the task without a coroutine."""
        self._steps = None
        self._wake()

    def _wake(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    async def _wait(self) -> None:
        error: BaseException | None = None
        try:
            await _pause()
            await self._woken
        except asyncio.CancelledError as cancelled:
            if not self.handed_over:
                raise
            error = cancelled
        steps, awaited = self._steps, self._awaited
        self._steps = self._awaited = None
        if steps is not None:
            await _resume(steps, awaited, error)


@types.coroutine
def _resume(steps: Steps, awaited: Any, error: BaseException | None) -> Generator[Any, None, None]:
    """Run `steps` from where they wait for `awaited`, as the task itself would have.

    `error` was thrown into the task in between; a cancellation is passed on to what is awaited.
    """
    if error is not None and awaited is not None:
        awaited.cancel()
    try:
        while True:
            if error is None:
                try:
                    yield awaited
                except BaseException as thrown:  # noqa: BLE001 - thrown into the coroutine below
                    error = thrown
            if error is None:
                awaited = steps.send(None)
            else:
                thrown_in, error = error, None
                awaited = steps.throw(thrown_in)
    except StopIteration:
        return

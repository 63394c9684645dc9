"""An event loop on virtual time: where a real one would wait for the next timer, the clock moves to it.

It is asyncio's own loop with another `_run_once`. Nothing waits, so an hour takes as long as its callbacks,
which run in the order in which asyncio runs them. What was scheduled in a life that is over does not run.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Iterable
from contextvars import Context, copy_context
from heapq import heappop, heappush
from typing import Any

from msctl.simulation.parties import Life, current
from msctl.simulation.refusals import Refusals, StuckError

BEGIN_S = 1_800_000_000.0
"""Virtual seconds since the epoch at the beginning."""
MOST_CALLBACKS_A_MOMENT = 200_000
"""Turns of the loop without the clock moving, after which the run is taken to be stuck."""


class _Selector(selectors.BaseSelector):
    """What asyncio registers its own pipe with; there is nothing else to wait for."""

    def __init__(self) -> None:
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        raise NotImplementedError("the loop asks nobody")

    def get_map(self) -> Any:
        return self._keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[fileobj]


class _Call(asyncio.Handle):
    """A callback, made without asking whether the loop is in debug mode."""

    __slots__ = ()

    def __init__(self, callback: Any, args: Any, loop: Any, context: Context | None) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class _Timer(asyncio.TimerHandle):
    """The same at a time."""

    __slots__ = ()

    def __init__(self, when: float, callback: Any, args: Any, loop: Any, context: Context | None) -> None:
        _Call.__init__(self, callback, args, loop, context)  # type: ignore[arg-type]  # the same slots
        self._when = when
        self._scheduled = False


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The clock and the callbacks of one run."""

    def __init__(self, refusals: Refusals) -> None:
        self.refusals = refusals
        self._virtual = 0.0
        self._standing = 0
        self._timers: list[tuple[float, int, Any]] = []
        self._last_timer = 0
        self._ready: deque[Any]
        self._stopping: bool
        self.turns = 0
        """Turns so far: a loop whose turns stand still is blocked."""
        super().__init__(_Selector())

    # --- time ------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._virtual

    def advance(self, timeout: float | None) -> None:
        """Move the clock by what the loop would have waited. Raises StuckError."""
        self.turns += 1
        if self.refusals.first is not None:
            raise self.refusals.first
        if timeout is None:
            raise StuckError(
                "nothing can happen any more: every task waits for what nobody does",
                self._place(asyncio.all_tasks(self)),
            )
        if timeout > 0:
            self._virtual += timeout
            self._standing = 0
            return
        self._standing += 1
        if self._standing > MOST_CALLBACKS_A_MOMENT:
            raise StuckError(
                f"the clock stands at {self._virtual:.3f} s: some code runs again and again without waiting",
                self._place(task for task in map(_task_of, self._ready) if task is not None),
            )

    def _place(self, tasks: Iterable[asyncio.Task[Any]]) -> str:
        """The first line of the user's code at which one of these tasks is."""
        found = [self.refusals.place(_awaited(task.get_coro())) for task in tasks]
        return min(filter(None, found), default="")

    # --- callbacks -------------------------------------------------------------------------------------

    # As asyncio's own, without debugging, thread safety and a selector to be asked: a simulation spends half
    # of its time here. `_ready`, `_stopping` and Handle's slots are those of Python 3.11 to 3.14.

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Call(callback, args, self, context)
        life = current.get() if context is None else context.get(current)
        if life is None or life.alive:
            self._ready.append(handle)
        else:
            handle._cancelled = True  # its life is over
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Timer(when, callback, args, self, context)
        life = current.get() if context is None else context.get(current)
        if life is None or life.alive:
            self._last_timer += 1
            heappush(self._timers, (when, self._last_timer, timer))
        else:
            timer._cancelled = True
        return timer

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def _run_once(self) -> None:
        timers, ready = self._timers, self._ready
        while timers and timers[0][2]._cancelled:
            heappop(timers)
        if ready or self._stopping:
            self.advance(0.0)
        elif timers:
            self.advance(timers[0][0] - self._virtual)
        else:
            self.advance(None)
        now = self._virtual
        while timers and timers[0][0] <= now:
            timer = heappop(timers)[2]
            if not timer._cancelled:
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as Handle._run
                text = f"exception in callback {handle._callback}"
                self.call_exception_handler({"message": text, "exception": error, "handle": handle})

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: cancelled timers leave when their time comes."""

    def end_life(self, life: Life) -> None:
        """Let nothing that was scheduled in a life run any more."""
        life.alive = False
        for handle in (*self._ready, *(timer for _, _, timer in self._timers)):
            if handle._context is not None and handle._context.get(current) is life:
                handle._cancelled = True


def _task_of(handle: Any) -> asyncio.Task[Any] | None:
    """The task whose step a handle is."""
    found = getattr(handle._callback, "__self__", None)
    return found if isinstance(found, asyncio.Task) else None


def _awaited(coroutine: Any) -> list[tuple[str, int]]:
    """Where a coroutine and what it awaits are, from the innermost outward."""
    frames: list[tuple[str, int]] = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is not None:
            frames.append((frame.f_code.co_filename, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None)
    return frames[::-1]

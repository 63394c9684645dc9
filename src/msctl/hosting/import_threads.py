"""Runs imports in threads of their own, one at a time.

An import may hang: at a server that the module itself starts, at a database that does not answer. It then
holds neither other services for long, nor the threads that files and names are read in, nor the end of the
process; and it is interrupted once its service was not ready in time.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import linecache
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_TURN_S = 5.0
"""How long an import waits for the one before it: what two services share is imported best in turn."""
_STARTS_A_SERVER = re.compile(r"\brun(_app|_simple|_server)?\(|\bserve(_forever)?\(")


class ImportThreads:
    """The imports of one project, whose own code is below `root`."""

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._turn = asyncio.Lock()
        self._stopped: dict[str, str] = {}

    async def run(self, target: str, call: Callable[[], T]) -> T:
        """Return what `call` returns. If this is cancelled, it is interrupted."""
        in_turn = await self._take_turn()
        thread = _ImportThread()
        try:
            loop = asyncio.get_running_loop()
            result = await loop.run_in_executor(thread, contextvars.copy_context().run, call)
            self._stopped.pop(target, None)
            return result
        except asyncio.CancelledError:
            place = thread.interrupt(self._root)
            if place is not None:  # else it waits for the import that was interrupted before
                self._stopped[target] = place
            raise
        finally:
            if in_turn:
                self._turn.release()

    def stopped_at(self, target: str) -> str | None:
        """Say where the import of `target` was interrupted, unless it has succeeded since."""
        return self._stopped.get(target)

    async def _take_turn(self) -> bool:
        try:
            async with asyncio.timeout(_TURN_S):
                return await self._turn.acquire()
        except TimeoutError:
            return False


class _ImportThread(Executor):
    """A daemon thread for one call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ident: int | None = None
        """Set while the call runs."""

    def submit(self, call: Callable[..., T], /, *args: Any, **options: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # what runs is not cancelled by its future

        def run() -> None:
            with self._lock:
                self._ident = threading.get_ident()
            try:
                result = call(*args, **options)
            except BaseException as error:  # noqa: BLE001 - it is the future's
                self._leave()
                future.set_exception(error)
            else:
                self._leave()
                future.set_result(result)

        threading.Thread(target=run, name="import", daemon=True).start()
        return future

    def _leave(self) -> None:
        with self._lock:
            self._ident = None

    def interrupt(self, root: Path | None) -> str | None:
        """Raise SystemExit at the call's next step in Python; return where it is in code below `root`."""
        with self._lock:
            if self._ident is None:
                return None
            place = _place(self._ident, root)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._ident), ctypes.py_object(SystemExit)
            )
            return place


def _place(ident: int, root: Path | None) -> str | None:
    """Return the innermost line of the project that the thread is at."""
    frame = sys._current_frames().get(ident)
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if root is not None and file.is_relative_to(root) and "site-packages" not in file.parts:
            text = linecache.getline(str(file), frame.f_lineno).strip()
            place = f"{file.relative_to(root)}:{frame.f_lineno}: {text}"
            if _STARTS_A_SERVER.search(text):
                place += ' (msctl serves it: put this below `if __name__ == "__main__":`)'
            return place
        frame = frame.f_back
    return None

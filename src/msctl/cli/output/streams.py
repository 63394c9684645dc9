"""Standard input and output for verbs that run an event loop: neither ever blocks it.

The streams stay in blocking mode (they are shared with the shell), so each read or write waits for
the descriptor first, and writes no more at a time than a pipe that is ready takes without blocking.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from msctl.errors import MsctlError, UsageError
from msctl.runtime.loop import new_event_loop

CHUNK = 64 * 1024
PIPE_CHUNK = 4096
"""What a pipe that is ready takes whole (POSIX's PIPE_BUF on Linux)."""

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on an event loop. SIGINT or SIGTERM cancels it once, so that it can end
    cleanly; a second one kills. Raises KeyboardInterrupt where `main` ends by that cancellation."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            return runner.run(_interruptible(main))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


async def _interruptible(main: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine of runner.run has one
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupt() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        task.cancel()

    for number in signals:
        loop.add_signal_handler(number, interrupt)
    try:
        return await main
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def calm() -> None:
    """Go on after a cancellation that was noticed: what is awaited from here on is not cancelled."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


async def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`. Raises BrokenPipeError where the reader has gone, MsctlError for the rest
    (a full disk, say)."""
    view = memoryview(data)
    waits = True
    while view:
        if waits:
            waits = await _ready(fd, write=True)
        try:
            view = view[os.write(fd, view[:PIPE_CHUNK] if waits else view) :]
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise MsctlError(f"the output cannot be written: {exc.strerror or exc}") from exc


async def chunks(fd: int) -> AsyncIterator[bytes]:
    """What comes in on `fd`, until its end."""
    waits = True
    while True:
        if waits:
            waits = await _ready(fd, write=False)
        data = os.read(fd, CHUNK)
        if not data:
            return
        yield data


async def read_all(fd: int, *, limit: int, name: str) -> bytes:
    """All of `fd`. Raises UsageError where it is more than `limit` bytes, or cannot be read."""
    parts, size = [], 0
    try:
        async for chunk in chunks(fd):
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise UsageError(f"{name} has more than the {limit} bytes that a message may have")
    except OSError as exc:
        raise unreadable(name, exc) from exc
    return b"".join(parts)


async def lines(fd: int, *, limit: int, name: str) -> AsyncIterator[bytes]:
    """Each line of `fd` without its line end, the last also without one. Raises as read_all does."""
    parts: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks(fd):
            *ended, rest = chunk.split(b"\n")
            for end in ended:
                size += len(end)
                _check_line(size, limit, name)
                yield b"".join((*parts, end))
                parts, size = [], 0
            parts.append(rest)
            size += len(rest)
            _check_line(size, limit, name)
    except OSError as exc:
        raise unreadable(name, exc) from exc
    if size:
        yield b"".join(parts)


def _check_line(size: int, limit: int, name: str) -> None:
    if size > limit:
        raise UsageError(f"a line of {name} has more than the {limit} bytes that a message may have")


def unreadable(name: str, exc: OSError) -> MsctlError:
    return UsageError(f"{name} cannot be read: {exc.strerror or exc}")


async def _ready(fd: int, *, write: bool) -> bool:
    """Wait until `fd` can be read or written; False where it cannot be waited for (a regular file)."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    add: Callable[..., None] = loop.add_writer if write else loop.add_reader
    remove: Callable[[int], bool] = loop.remove_writer if write else loop.remove_reader
    try:
        add(fd, ready.set)
    except (OSError, ValueError, NotImplementedError):
        return False
    try:
        await ready.wait()
    finally:
        remove(fd)
    return True

"""Standard input and output on an event loop, without blocking it.

The descriptors stay in blocking mode, since the shell shares them. Each read or write therefore waits
until the descriptor is ready, and writes at most PIPE_BUF bytes, which a ready pipe takes whole.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from msctl.errors import MsctlError, UsageError
from msctl.runtime.loop import new_event_loop

CHUNK = 64 * 1024
PIPE_CHUNK = 4096
"""PIPE_BUF on Linux: bytes that a ready pipe takes without blocking."""

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on an event loop.

    The first SIGINT or SIGTERM cancels it; a second one kills the process. Raises KeyboardInterrupt if
    `main` ends by that cancellation.
    """
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


def uncancel() -> None:
    """Clear the current task's cancellation, so that it can await again."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


def note(text: str) -> None:
    """Print a line about the run itself, on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


async def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`. Raises BrokenPipeError if the reader is gone, MsctlError for other failures."""
    view = memoryview(data)
    pollable = True
    while view:
        if pollable:
            pollable = await _ready(fd, write=True)
        try:
            view = view[os.write(fd, view[:PIPE_CHUNK] if pollable else view) :]
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise MsctlError(f"cannot write the output: {(exc.strerror or str(exc)).lower()}") from exc


async def chunks(fd: int) -> AsyncIterator[bytes]:
    """Read `fd` to its end."""
    pollable = True
    while True:
        if pollable:
            pollable = await _ready(fd, write=False)
        data = os.read(fd, CHUNK)
        if not data:
            return
        yield data


async def read_all(fd: int, *, limit: int, name: str) -> bytes:
    """Return all of `fd`. Raises UsageError if it exceeds `limit` bytes or cannot be read."""
    parts, size = [], 0
    try:
        async for chunk in chunks(fd):
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise UsageError(f"{name} is larger than {limit} bytes, the maximum of a message")
    except OSError as exc:
        raise unreadable(name, exc) from exc
    return b"".join(parts)


async def lines(fd: int, *, limit: int, name: str) -> AsyncIterator[list[bytes]]:
    """Yield the lines of `fd` without their line ends, a list for each read. Raises as read_all does."""
    parts: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks(fd):
            ended = chunk.split(b"\n")
            rest = ended.pop()
            if ended:
                ended[0] = b"".join((*parts, ended[0]))
                parts, size = [], 0
                if max(map(len, ended)) > limit:
                    yield list(itertools.takewhile(lambda line: len(line) <= limit, ended))
                    _check_line(limit + 1, limit, name)
                yield ended
            parts.append(rest)
            size += len(rest)
            _check_line(size, limit, name)
    except OSError as exc:
        raise unreadable(name, exc) from exc
    if size:
        yield [b"".join(parts)]


def _check_line(size: int, limit: int, name: str) -> None:
    if size > limit:
        raise UsageError(f"a line of {name} is larger than {limit} bytes, the maximum of a message")


def unreadable(name: str, exc: OSError) -> MsctlError:
    """Return the error for input that cannot be read."""
    return UsageError(f"cannot read {name}: {(exc.strerror or str(exc)).lower()}")


async def _ready(fd: int, *, write: bool) -> bool:
    """Wait until `fd` is ready; False if it cannot be waited for (a regular file)."""
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

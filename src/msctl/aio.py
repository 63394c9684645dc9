"""What asyncio lacks, each thing once. Imports nothing of msctl but the clock."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Coroutine
from typing import Any

from msctl.clock import AsyncClock

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for 0 s: close sends RST and drops what was not sent."""
_ABANDON_S = 1.0


async def first_of(*steps: Awaitable[Any]) -> tuple[asyncio.Future[Any], ...]:
    """Run `steps` side by side until one has finished, then cancel the others and wait for their end.

    Returns their futures in the order given: finished, or cancelled. The caller asks a finished one for
    its result or exception. Wrap a task that outlives the call in `asyncio.shield`.
    """
    futures = tuple(asyncio.ensure_future(step) for step in steps)
    try:
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for future in futures:
            future.cancel()
        await asyncio.gather(*futures, return_exceptions=True)
    return futures


async def within(
    seconds: float, step: Coroutine[Any, Any, None], clock: AsyncClock, hurry: asyncio.Event
) -> bool:
    """Run `step` for at most `seconds` and until `hurry` is set, then cancel it; return whether it finished.

    A step that ignores its cancellation is left behind after a second.
    """
    task = asyncio.ensure_future(step)
    try:
        await first_of(asyncio.shield(task), clock.sleep(seconds), hurry.wait())
        if task.done():
            task.result()
            return True
        task.cancel()
        await asyncio.wait({task}, timeout=_ABANDON_S)
        return False
    finally:
        task.cancel()


def reset_connection(transport: asyncio.Transport | None) -> None:
    """Close a TCP connection with RST, so that the peer cannot take the end for the end of the content."""
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass  # already closed
    transport.abort()

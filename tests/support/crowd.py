"""Clients that leave at any point of a request, and what is left of them in this process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

AT_ONCE = 50
RESET = struct.pack("ii", 1, 0)


async def crowd(port: int, requests: Sequence[bytes], count: int, source: random.Random) -> None:
    """Let `count` clients come and go, AT_ONCE of them at a time."""
    left = iter(range(count))

    async def visitor() -> None:
        for _ in left:
            await come_and_go(port, source.choice(requests), source)

    await asyncio.gather(*(visitor() for _ in range(AT_ONCE)))


async def come_and_go(port: int, data: bytes, source: random.Random) -> None:
    """Send a part of a request, perhaps read something, and leave in one of the three ways."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(OSError):
        writer.write(data[: source.choice([0, 1, 20, len(data) // 2, len(data) - 1, len(data)])])
        await asyncio.sleep(source.choice([0, 0, 0.002, 0.02]))
        if source.random() < 0.3:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await reader.read(1000)
        if source.random() < 0.2 and not writer.is_closing():
            writer.write_eof()
            await asyncio.sleep(0.002)
    if source.random() < 0.5 and not writer.is_closing():
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
    else:
        writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def left_behind(*packages: str) -> tuple[int, int, int]:
    """Return how many descriptors, tasks and objects of these packages there are."""
    gc.collect()
    files = Path("/proc/self/fd")
    ours = [one for one in gc.get_objects() if str(type(one).__module__).startswith(packages)]
    return len(list(files.iterdir())) if files.exists() else 0, len(asyncio.all_tasks()), len(ours)

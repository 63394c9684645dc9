"""Waiting for what comes to be without an event that could be awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds after which a test is failed for waiting; never what is being tested."""
TURN = 0.005


async def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Give the loop its turns until `condition` holds; raises TimeoutError if it never does."""
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(TURN)


def eventually(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until `condition` holds, for tests without a loop; raises TimeoutError if it never does."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience:g} s in vain")
        time.sleep(0.05)

"""What asyncio lacks, each thing once. Imports nothing of msctl but the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from msctl.clock import AsyncClock


async def within(
    seconds: float, step: Coroutine[Any, Any, None], clock: AsyncClock, hurry: asyncio.Event
) -> bool:
    """Run `step`, but no longer than `seconds` or until `hurry` is set; then cancel it.

    Says whether it finished. A step that ignores its cancellation is left behind after a second.
    """
    task = asyncio.ensure_future(step)
    limits = {asyncio.ensure_future(clock.sleep(seconds)), asyncio.ensure_future(hurry.wait())}
    try:
        await asyncio.wait({task, *limits}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        return False
    finally:
        task.cancel()
        for limit in limits:
            limit.cancel()
        await asyncio.gather(*limits, return_exceptions=True)

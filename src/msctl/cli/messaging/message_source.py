"""The messages of one `send`, read ahead by a task, so that a lost connection cancels no read."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from msctl.errors import MsctlError


class MessageSource:
    """Bodies in order. One that was taken from `ready` counts as sent."""

    def __init__(self, batches: AsyncIterator[list[bytes]]) -> None:
        self.ready: deque[bytes] = deque()
        self._read_ahead: asyncio.Queue[list[bytes] | MsctlError | None] = asyncio.Queue(1)
        self._ended = False
        self._task = asyncio.create_task(self._read(batches))

    async def fill(self) -> bool:
        """Wait for more in `ready`; False at the end. Raises the error of a source that cannot be read."""
        if self._ended:
            return False
        found = await self._read_ahead.get()
        if isinstance(found, list):
            self.ready.extend(found)
            return True
        self._ended = True
        if found is not None:
            raise found
        return False

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _read(self, batches: AsyncIterator[list[bytes]]) -> None:
        try:
            async for batch in batches:
                await self._read_ahead.put(batch)
        except MsctlError as error:
            await self._read_ahead.put(error)
        else:
            await self._read_ahead.put(None)

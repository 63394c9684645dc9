"""A hosted service without code: the files of a folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

from msctl.errors import MsctlError
from msctl.http.static_files import StaticFiles
from msctl.model.exchange import Exchange
from msctl.model.route_policies import StaticSpec


class StaticApp:
    """Serves `spec.root` as an application of its own."""

    def __init__(self, spec: StaticSpec) -> None:
        self._spec = spec
        self._files = StaticFiles(spec)
        self._serving: set[asyncio.Task[object]] = set()

    async def startup(self) -> None:
        """Raises MsctlError without the folder."""
        if not await asyncio.to_thread(Path(self._spec.root).is_dir):
            raise MsctlError(f"there is no folder {self._spec.root}")

    async def handle(self, exchange: Exchange) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a handler runs in a task")
        self._serving.add(task)
        try:
            await self._files.serve(exchange)
        finally:
            self._serving.discard(task)

    async def drain(self, timeout: float) -> None:
        if self._serving:
            _, late = await asyncio.wait(list(self._serving), timeout=timeout)
            for task in late:
                task.cancel()

    async def cleanup(self) -> None:
        """Do nothing: each request closes its file."""

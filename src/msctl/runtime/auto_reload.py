"""`up --watch`: reloads the stack whenever a file of its configuration or a source file is edited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from msctl.clock import AsyncClock
from msctl.errors import MsctlError
from msctl.model.views import ReloadResult
from msctl.runtime.file_watch import FileWatch
from msctl.telemetry.logs.hub import STACK, LogHub


async def reload_on_edits(
    files: Callable[[], Awaitable[set[Path]]],
    reload: Callable[[], Awaitable[ReloadResult]],
    *,
    clock: AsyncClock,
    logs: LogHub,
) -> None:
    """Reload after each edit of one of `files`, and log the result, until cancelled."""
    watch = FileWatch(clock)
    watch.look(await files())
    while True:
        # At once too: files may have been edited while the services started.
        await _reload(reload, logs)
        await watch.edited(await files())


async def _reload(reload: Callable[[], Awaitable[ReloadResult]], logs: LogHub) -> None:
    try:
        result = await reload()
    except MsctlError as error:
        hint = f" ({error.hint})" if error.hint else ""
        logs.append(STACK, f"not reloaded: {error.message}{hint}", "error")
        return
    for name, reason in result.failed.items():
        logs.append(STACK, f"reload of {name} failed: {reason}", "error")
    if done := result.done():
        logs.append(STACK, f"reloaded: {'; '.join(done)}")

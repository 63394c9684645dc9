"""What an instance runs, as its life sees it: something that starts, may end, and can be stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from msctl.clock import AsyncClock
from msctl.discovery.registry import Endpoint
from msctl.supervisor.policy import Outcome


class StartError(Exception):
    """A worker could not start; nothing of it is left."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Checks(Protocol):
    """How a worker's health is found out."""

    async def run(self, report: Report) -> str:
        """Tell `report` of each change; return why the worker has to be replaced."""
        ...


class Report(Protocol):
    """What checks tell the instance."""

    def passed(self) -> None: ...

    def failed(self, reason: str, *, sick: bool) -> None:
        """A probe failed; `sick` says that it failed too often."""
        ...


class Worker(Protocol):
    """One start of an instance. Made anew for each start."""

    @property
    def pid(self) -> int | None: ...

    @property
    def address(self) -> str | None:
        """host:port, or the URL of what does not speak plain HTTP here; once it is known."""
        ...

    @property
    def endpoint(self) -> Endpoint | None:
        """Where its requests go; None for one that takes none."""
        ...

    @property
    def checks(self) -> Checks | None:
        """None means that it is ready as soon as it has started."""
        ...

    async def start(self) -> None:
        """Raises StartError; when cancelled, it leaves nothing behind."""
        ...

    async def wait(self) -> Outcome:
        """How it ended by itself."""
        ...

    async def stop(self, timeout: float) -> str | None:
        """End it within about `timeout` seconds; return how it ended, if there is something to say."""
        ...

    def kill(self) -> None:
        """End it now; a `stop` under way then returns soon."""
        ...


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

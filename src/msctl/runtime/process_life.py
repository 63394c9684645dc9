"""The life of a stack, or of a single service, in this process: event loop, signals, logging, end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from msctl.aio import first_of
from msctl.clock import AsyncClock, SystemClock
from msctl.hosting.standard_streams import breakpoints, service_streams
from msctl.model.snapshots import LogLine, Snapshot
from msctl.runtime.loop import new_event_loop
from msctl.telemetry.logs.hub import STACK, HubHandler, LogHub, current_service

log = logging.getLogger("msctl.runtime.process_life")


class System(Protocol):
    """What can be run: a Stack, or a Single."""

    async def open(self) -> None: ...

    async def up(self) -> None: ...

    async def ended(self) -> None: ...

    async def end(self) -> None: ...

    def ask_to_end(self, timeout: float | None = None) -> None: ...

    def kill(self) -> None: ...

    async def snapshot(self) -> Snapshot: ...


class Audience(Protocol):
    """Who started it, and what it is told."""

    def line(self, line: LogLine) -> None:
        """A line of the log; called in the loop, so it must not block for long."""
        ...

    def open(self) -> None:
        """Its listeners are bound, and its control socket (where it has one) answers."""
        ...

    def up(self, snapshot: Snapshot) -> bool:
        """The start is over, with what came of it; whether to go on."""
        ...


def run(make: Callable[[AsyncClock, LogHub], System], audience: Audience) -> None:
    """Run a system until it is asked to end: by itself, or by SIGINT, SIGTERM or SIGHUP.

    A second signal ends it at once. Raises what kept it from coming up, after everything has been
    undone.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_run(make, audience))


async def _run(make: Callable[[AsyncClock, LogHub], System], audience: Audience) -> None:
    clock = SystemClock(asyncio.sleep)
    logs = LogHub(clock)
    logs.bind(asyncio.get_running_loop())
    logs.listen(audience.line)
    with _logging_to(logs), _printing_to(logs):
        system = make(clock, logs)
        _on_signals(system)
        ending = asyncio.ensure_future(system.ended())
        try:
            if await _unless(ending, _start(system, audience)) or ending.done():
                await ending
        finally:
            ending.cancel()
            await system.end()


async def _start(system: System, audience: Audience) -> bool:
    await system.open()
    audience.open()
    await system.up()
    return audience.up(await system.snapshot())


async def _unless(ending: asyncio.Future[None], work: Coroutine[Any, Any, bool]) -> bool:
    """What `work` returns, or False if `ending` comes first, which cancels it."""
    done, _ = await first_of(work, asyncio.shield(ending))
    return False if done.cancelled() else bool(done.result())


@contextmanager
def _logging_to(logs: LogHub) -> Iterator[None]:
    """Send the standard `logging` of this process to the hub."""
    handler = HubHandler(logs)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)


@contextmanager
def _printing_to(logs: LogHub) -> Iterator[None]:
    """Log what hosted services print, and make their `breakpoint()` usable."""

    def writer() -> str | None:
        service = current_service.get()
        return None if service == STACK else service

    def line(service: str, stream: str, text: str) -> None:
        logs.append(service, text, stream=stream)

    def skipped(place: str) -> None:
        text = f"breakpoint() at {place} is skipped: no terminal; start in the foreground with: msctl up"
        logs.append(writer() or STACK, text, "warning")

    interactive = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    with service_streams(writer, line), breakpoints(interactive=interactive, skipped=skipped):
        yield


def _on_signals(system: System) -> None:
    """The first signal asks the system to end, a second one ends it at once."""
    loop = asyncio.get_running_loop()
    asked = False

    def signalled(number: signal.Signals) -> None:
        nonlocal asked
        if asked:
            system.kill()
            os._exit(128 + number)
        asked = True
        log.info("stopping (%s; once more to stop at once)", number.name)
        system.ask_to_end()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, signalled, number)

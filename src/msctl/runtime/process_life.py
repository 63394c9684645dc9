"""Runs a stack or a single service in this process: event loop, signals, logging, shutdown."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from msctl.aio import first_of
from msctl.clock import AsyncClock, SystemClock
from msctl.forks import STOP_SIGNALS, forks_let_go
from msctl.hosting.service_threads import ServiceExecutor, service_threads
from msctl.hosting.signal_handlers import signal_handlers
from msctl.hosting.standard_streams import breakpoints, service_streams
from msctl.model.events import LogLine
from msctl.model.snapshots import Snapshot
from msctl.processes.file_limit import raise_file_limit
from msctl.processes.leftovers import end_leftovers
from msctl.processes.orphans import become_subreaper, reap_orphans
from msctl.runtime.exit import EXIT_S, at_most
from msctl.runtime.loop import new_event_loop
from msctl.telemetry.logs.forked import forked_logs
from msctl.telemetry.logs.hub import STACK, HubHandler, LogHub, current_service
from msctl.telemetry.logs.root_logger import root_handler

log = logging.getLogger("msctl.runtime.process_life")


class System(Protocol):
    """What can be run: a Stack or a SingleService."""

    async def open(self) -> None: ...

    async def up(self) -> Snapshot: ...

    async def wait_stop_requested(self) -> None: ...

    async def close(self) -> None: ...

    def request_stop(self, timeout: float | None = None) -> None: ...

    def kill(self) -> None: ...

    async def snapshot(self) -> Snapshot: ...


class Output(Protocol):
    """Shows the progress of a system to whoever started it."""

    def line(self, line: LogLine) -> None:
        """Show a line of the log; called on the loop, so it must not block."""
        ...

    def open(self) -> None:
        """Show that its listeners are bound, and its control socket (if any) answers."""
        ...

    async def watch(self, snapshot: Callable[[], Awaitable[Snapshot]]) -> None:
        """Show what the start waits for, until cancelled; return at once to show nothing."""
        ...

    def up(self, snapshot: Snapshot) -> bool:
        """Show the result of the start; return whether to run on."""
        ...


def run(make: Callable[[AsyncClock, LogHub], System], output: Output) -> None:
    """Run a system until it stops by itself or SIGINT, SIGTERM or SIGHUP arrives.

    A second signal kills it. Raises the error that kept it from starting, after everything is undone.
    """
    raise_file_limit()
    with forks_let_go():
        runner = asyncio.Runner(loop_factory=new_event_loop)
        try:
            runner.run(_run(make, output))
        finally:
            with at_most(EXIT_S):  # tasks and threads of hosted applications may not end
                runner.close()


async def _run(make: Callable[[AsyncClock, LogHub], System], output: Output) -> None:
    clock = SystemClock(asyncio.sleep)
    loop = asyncio.get_running_loop()
    logs = LogHub(clock)
    logs.bind(loop)
    logs.listen(output.line)
    reaping = asyncio.create_task(reap_orphans(clock)) if become_subreaper() else None
    handler = HubHandler(logs)
    loop.set_default_executor(ServiceExecutor(thread_name_prefix="asyncio"))
    with (
        _logging_to(handler),
        _printing_to(logs, handler),
        service_threads(),
        forked_logs(loop, logs),
        signal_handlers(loop, _writer, partial(logs.append, level="warning")),
    ):
        system = make(clock, logs)
        _on_signals(system)
        ending = asyncio.ensure_future(system.wait_stop_requested())
        try:
            if await _unless(ending, _start(system, output)) or ending.done():
                await ending
        finally:
            ending.cancel()
            await system.close()
            await asyncio.to_thread(end_leftovers)
            if reaping is not None:
                reaping.cancel()


async def _start(system: System, output: Output) -> bool:
    await system.open()
    output.open()
    watching = asyncio.create_task(output.watch(system.snapshot))
    try:
        started = await system.up()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return output.up(started)


async def _unless(ending: asyncio.Future[None], work: Coroutine[Any, Any, bool]) -> bool:
    """Return the result of `work`; if `ending` comes first, cancel it and return False."""
    done, _ = await first_of(work, asyncio.shield(ending))
    return False if done.cancelled() else bool(done.result())


@contextmanager
def _logging_to(handler: HubHandler) -> Iterator[None]:
    """Send the records of this process's `logging` to the hub."""
    logging.captureWarnings(True)
    try:
        with root_handler(handler):
            yield
    finally:
        logging.captureWarnings(False)


@contextmanager
def _printing_to(logs: LogHub, handler: HubHandler) -> Iterator[None]:
    """Log what hosted services print, and make their `breakpoint()` usable."""

    def line(service: str, stream: str, text: str) -> None:
        logs.printed(service, text, stream=stream)

    def skipped(place: str) -> None:
        text = f"breakpoint() at {place} is skipped: no terminal; start in the foreground with: msctl up"
        logs.append(_writer() or STACK, text, "warning")

    interactive = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    with (
        service_streams(_writer, line, handler.printed),
        breakpoints(interactive=interactive, skipped=skipped),
    ):
        yield


def _writer() -> str | None:
    """The service whose code runs."""
    service = current_service.get()
    return None if service == STACK else service


def _on_signals(system: System) -> None:
    """Stop the system at the first signal, kill it at the second."""
    loop = asyncio.get_running_loop()
    asked = False

    def signalled(number: signal.Signals) -> None:
        nonlocal asked
        if asked:
            system.kill()
            os._exit(128 + number)
        asked = True
        log.info("stopping (%s; repeat it to kill everything)", number.name)
        system.request_stop()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, signalled, number)

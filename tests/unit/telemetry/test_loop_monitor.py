"""A stall of the event loop is reported with service, file and line; an idle loop is not a stall."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
import uvloop

from msctl.telemetry.loop_monitor import BEAT_S, CHECK_S, CodeLocation, LoopMonitor, Stall, locate
from tests.support.waiting import eventually


def blocking_handler(seconds: float) -> int:
    line = inspect.currentframe().f_lineno  # type: ignore[union-attr]  # CPython has frames
    time.sleep(seconds)
    return line + 1


def spinning_handler(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        json.dumps(list(range(500)))


async def serving(msctl_service: str, seconds: float) -> int:
    """Call a handler as a service host does; `service_of` reads its local variable."""
    assert msctl_service
    await asyncio.sleep(0)
    return blocking_handler(seconds)


def service_of(frame: FrameType) -> str | None:
    return frame.f_locals["msctl_service"] if frame.f_code is serving.__code__ else None


@contextmanager
def monitored(**options: object) -> Iterator[tuple[LoopMonitor, asyncio.Queue[Stall]]]:
    stalls: asyncio.Queue[Stall] = asyncio.Queue()
    monitor = LoopMonitor(stalls.put_nowait, service_of=service_of, **options)  # type: ignore[arg-type]  # of these tests
    monitor.start()
    try:
        yield monitor, stalls
    finally:
        monitor.stop()


async def stall_in(stalls: asyncio.Queue[Stall], function: str, blocking: Callable[[], object]) -> Stall:
    """Block the loop until a stall is reported there.

    On a busy machine the thread that looks may come late, and other code may be what does not go on.
    """
    async with asyncio.timeout(60):
        while True:
            if inspect.isawaitable(waiting := blocking()):
                await waiting
            await asyncio.sleep(2 * BEAT_S)
            while not stalls.empty():
                stall = stalls.get_nowait()
                if stall.location is not None and stall.location.function == function:
                    return stall


async def test_a_blocking_handler_is_reported_with_service_file_and_line() -> None:
    with monitored() as (monitor, stalls):
        line = blocking_handler(0.0)
        stall = await stall_in(stalls, "blocking_handler", lambda: serving("users", 0.6))
        assert stall.location == CodeLocation("users", __file__, line, "blocking_handler")
        assert stall.seconds >= 0.5
        assert monitor.lag() >= 0.5
        assert str(stall).startswith("users blocked the event loop for ")
        assert f"test_loop_monitor.py:{line} in blocking_handler: time.sleep(seconds)" in str(stall)


def test_it_works_on_uvloop() -> None:
    async def main() -> Stall:
        with monitored() as (_, stalls):
            return await stall_in(stalls, "blocking_handler", lambda: blocking_handler(0.6))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()).seconds >= 0.5


async def test_the_project_line_is_reported_when_a_library_does_the_work() -> None:
    with monitored() as (_, stalls):
        stall = await stall_in(stalls, "spinning_handler", lambda: spinning_handler(0.6))
    assert stall.location is not None
    assert stall.location.service == ""


async def test_an_unknown_frame_belongs_to_the_service_of_its_module() -> None:
    with monitored(modules={__name__.rpartition(".")[0]: "orders"}) as (_, stalls):
        stall = await stall_in(stalls, "blocking_handler", lambda: blocking_handler(0.6))
    assert stall.location is not None
    assert stall.location.service == "orders"


async def test_modules_can_be_reassigned_to_another_service() -> None:
    with monitored(modules={__name__.rpartition(".")[0]: "orders"}) as (monitor, stalls):
        monitor.set_modules({__name__.rpartition(".")[0]: "payments"})
        stall = await stall_in(stalls, "blocking_handler", lambda: blocking_handler(0.6))
    assert stall.location is not None
    assert stall.location.service == "payments"


async def test_a_short_stall_is_not_reported() -> None:
    with monitored(blocked_s=30.0) as (monitor, stalls):
        blocking_handler(0.3)
        await asyncio.sleep(0.1)
        assert stalls.empty()
        assert monitor.lag() >= 0.2


async def test_the_same_location_is_reported_once_and_counted() -> None:
    with monitored(blocked_s=0.2) as (_, stalls):
        found = await stall_in(stalls, "blocking_handler", lambda: blocking_handler(0.4))
        assert found.unreported == 0
        for _ in range(2):
            blocking_handler(0.4)
            await asyncio.sleep(2 * BEAT_S)
        while not stalls.empty():
            assert stalls.get_nowait().location != found.location
    location = CodeLocation("", __file__, 1, "f")
    assert "(2 more times since the last report)" in str(Stall(0.4, location, unreported=2))


async def test_an_unfinished_stall_is_reported_once_from_another_thread() -> None:
    heard = threading.Event()
    stalls: list[Stall] = []

    def stuck(stall: Stall) -> None:
        stalls.append(stall)
        heard.set()

    with monitored(stuck=stuck, stuck_s=0.3):
        assert heard.wait(30), "the loop is blocked by this very wait"
        time.sleep(3 * CHECK_S)  # the thread looks again
    assert len(stalls) == 1
    assert stalls[0].location is not None
    assert stalls[0].location.file == __file__


def test_an_idle_loop_has_no_location() -> None:
    ready, done = threading.Event(), threading.Event()
    ident: list[int] = []

    async def idle() -> None:
        ident.append(threading.get_ident())
        asyncio.get_running_loop().call_soon(ready.set)
        await asyncio.to_thread(done.wait, 60)

    thread = threading.Thread(target=asyncio.run, args=(idle(),))
    thread.start()
    assert ready.wait(60)
    try:
        # It becomes idle once the callback that has set it has returned.
        eventually(lambda: locate(sys._current_frames()[ident[0]], service_of, {}) is None)
    finally:
        done.set()
        thread.join()


def test_a_stall_without_location_blames_the_machine() -> None:
    assert str(Stall(0.5, None)) == "the event loop did not run for 500 ms: the machine was busy or suspended"


def test_files_below_the_working_directory_are_shown_relative_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    assert str(CodeLocation("", __file__, 1, "f")).startswith("test_loop_monitor.py:1 in f")
    assert str(CodeLocation("", "/nowhere/x.py", 7, "f")) == "/nowhere/x.py:7 in f"


async def test_lag_covers_the_last_two_periods() -> None:
    monitor = LoopMonitor(lambda _: None)
    monitor._worst.record(1000.0, 3.0)
    assert monitor._worst.value(1009.0) == 3.0
    assert monitor._worst.value(1015.0) == 3.0
    assert monitor._worst.value(1025.0) == 0.0


async def test_stopping_leaves_no_thread() -> None:
    with monitored():
        assert any(t.name == "msctl-loop-monitor" for t in threading.enumerate())
    assert not any(t.name == "msctl-loop-monitor" for t in threading.enumerate())

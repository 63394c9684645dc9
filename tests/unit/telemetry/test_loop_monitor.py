"""A block of the event loop is named by service, file and line; waiting is never blamed on anybody."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
import uvloop

from msctl.telemetry.loop_monitor import Block, LoopWatch, Place, locate


def blocking_handler(seconds: float) -> int:
    line = inspect.currentframe().f_lineno  # type: ignore[union-attr]  # CPython has frames
    time.sleep(seconds)
    return line + 1


def spinning_handler(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        json.dumps(list(range(500)))


async def serving(msctl_service: str, seconds: float) -> int:
    """Stands for what calls a service's handler: `service_of` knows it by its local."""
    assert msctl_service
    await asyncio.sleep(0)
    return blocking_handler(seconds)


def service_of(frame: FrameType) -> str | None:
    return frame.f_locals["msctl_service"] if frame.f_code is serving.__code__ else None


@contextmanager
def watched(**options: object) -> Iterator[tuple[LoopWatch, asyncio.Queue[Block]]]:
    blocks: asyncio.Queue[Block] = asyncio.Queue()
    watch = LoopWatch(blocks.put_nowait, service_of=service_of, **options)  # type: ignore[arg-type]  # of these tests
    watch.start()
    try:
        yield watch, blocks
    finally:
        watch.stop()


async def told(blocks: asyncio.Queue[Block]) -> Block:
    async with asyncio.timeout(10):
        while (block := await blocks.get()).place is None:  # a noisy machine
            pass
    return block


async def test_a_handler_that_blocks_is_named_by_service_file_and_line() -> None:
    with watched() as (watch, blocks):
        line = await asyncio.create_task(serving("users", 0.6))
        block = await told(blocks)
        assert block.place == Place("users", __file__, line, "blocking_handler")
        assert block.seconds >= 0.5
        assert watch.lag() >= 0.5
        assert str(block).startswith("users blocked the event loop for ")
        assert f"test_lag.py:{line} in blocking_handler: time.sleep(seconds)" in str(block)


def test_it_works_on_uvloop_as_well() -> None:
    async def main() -> Block:
        with watched() as (_, blocks):
            await asyncio.create_task(serving("users", 0.6))
            return await told(blocks)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        place = runner.run(main()).place
    assert place is not None
    assert (place.service, place.function) == ("users", "blocking_handler")


async def test_the_users_line_is_named_though_a_library_does_the_work() -> None:
    with watched() as (_, blocks):
        spinning_handler(0.6)
        place = (await told(blocks)).place
    assert place is not None
    assert place.function == "spinning_handler"
    assert place.service == ""


async def test_a_frame_that_nobody_knows_belongs_to_the_service_of_its_module() -> None:
    with watched(modules={__name__.rpartition(".")[0]: "orders"}) as (_, blocks):
        blocking_handler(0.6)
        place = (await told(blocks)).place
    assert place is not None
    assert place.service == "orders"


async def test_a_module_can_become_another_service_s() -> None:
    with watched(modules={__name__.rpartition(".")[0]: "orders"}) as (watch, blocks):
        watch.attribute({__name__.rpartition(".")[0]: "payments"})
        blocking_handler(0.6)
        place = (await told(blocks)).place
    assert place is not None
    assert place.service == "payments"


async def test_a_short_block_is_not_reported() -> None:
    with watched(blocked_s=30.0) as (watch, blocks):
        blocking_handler(0.3)
        await asyncio.sleep(0.1)
        assert blocks.empty()
        assert watch.lag() >= 0.2


async def test_the_same_place_is_told_once_and_counted() -> None:
    with watched(blocked_s=0.2) as (_, blocks):
        for _ in range(3):
            blocking_handler(0.4)
            await asyncio.sleep(0.05)
        assert (await told(blocks)).again == 0
        assert blocks.empty() or (await blocks.get()).place is None
        place = Place("", __file__, 1, "f")
        assert "(2 more times since this was last said)" in str(Block(0.4, place, again=2))


async def test_a_block_that_does_not_end_is_told_from_another_thread() -> None:
    heard = threading.Event()
    blocks: list[Block] = []

    def stuck(block: Block) -> None:
        blocks.append(block)
        heard.set()

    with watched(stuck=stuck, stuck_s=0.3):
        await asyncio.sleep(0.05)
        assert heard.wait(10), "the loop is blocked by this very wait"
        await asyncio.sleep(0.05)
    assert len(blocks) == 1
    assert blocks[0].place is not None
    assert blocks[0].place.file == __file__


def test_a_waiting_loop_is_nobodys_fault() -> None:
    ready, done = threading.Event(), threading.Event()
    ident: list[int] = []

    async def idle() -> None:
        ident.append(threading.get_ident())
        asyncio.get_running_loop().call_later(0.05, ready.set)
        await asyncio.to_thread(done.wait, 10)

    thread = threading.Thread(target=asyncio.run, args=(idle(),))
    thread.start()
    assert ready.wait(10)
    time.sleep(0.02)  # lets the callback that set it return
    place = locate(sys._current_frames()[ident[0]], service_of, {})
    done.set()
    thread.join()
    assert place is None


def test_a_machine_that_gives_no_time_is_said_to_be_at_fault() -> None:
    assert str(Block(0.5, None)) == "the event loop did not run for 500 ms: this machine gave it no time"


def test_files_below_the_current_folder_are_named_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    assert str(Place("", __file__, 1, "f")).startswith("test_lag.py:1 in f")
    assert str(Place("", "/nowhere/x.py", 7, "f")) == "/nowhere/x.py:7 in f"


async def test_lag_is_forgotten_after_a_while() -> None:
    watch = LoopWatch(lambda _: None)
    watch._worst.record(1000.0, 3.0)
    assert watch._worst.value(1009.0) == 3.0
    assert watch._worst.value(1015.0) == 3.0
    assert watch._worst.value(1025.0) == 0.0


async def test_stopping_leaves_no_thread() -> None:
    with watched():
        assert any(t.name == "msctl-loop-watch" for t in threading.enumerate())
    assert not any(t.name == "msctl-loop-watch" for t in threading.enumerate())

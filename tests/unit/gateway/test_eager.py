"""Coroutines that start as a batch, with one task and context each from first step to last."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from msctl.gateway.eager import BATCH_SIZE, Eager, yield_to_batch
from tests.support.waiting import PATIENCE, until

Steps = Callable[[], Coroutine[Any, Any, None]]
colour: ContextVar[str] = ContextVar("colour", default="none")


def current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def nothing() -> None:
    """Leaves a spare task behind."""


class Bench:
    """An `Eager`, and the errors reported to its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.eager = Eager(loop)
        self.errors: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: self.errors.append(context))

    async def begin(self, *steps: Steps) -> None:
        """Start these in one turn of the loop."""
        for each in steps:
            self.eager.start(each())
        await asyncio.sleep(0)

    async def warm(self) -> None:
        """Create a spare task that waits."""
        await self.begin(nothing)
        await asyncio.sleep(0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """No task may be left after `close`."""
    before = asyncio.all_tasks()
    bench = Bench(asyncio.get_running_loop())
    yield bench
    bench.eager.close()
    await until(lambda: asyncio.all_tasks() <= before | {current()})


async def test_a_coroutine_that_never_waits_needs_no_new_task(bench: Bench) -> None:
    names: list[str] = []

    async def steps() -> None:
        task = current()
        names.append(task.get_name())

    tasks = len(asyncio.all_tasks())
    for _ in range(3):
        await bench.begin(steps, steps)
    assert len(names) == 6
    assert len(set(names)) == 2
    assert len(asyncio.all_tasks()) == tasks + 2


async def test_coroutines_of_one_turn_run_stage_by_stage(bench: Bench) -> None:
    ran: list[str] = []

    def named(name: str, stages: int) -> Steps:
        async def steps() -> None:
            for stage in range(stages):
                ran.append(f"{name}{stage}")
                await yield_to_batch()
            ran.append(f"{name} ended")

        return steps

    for steps in (named("a", 2), named("b", 1), named("c", 2)):
        bench.eager.start(steps())
    bench.loop.call_soon(ran.append, "next turn")
    await asyncio.sleep(0)
    assert ran == ["a0", "b0", "c0", "a1", "b ended", "c1", "a ended", "c ended", "next turn"]


async def test_a_coroutine_that_keeps_yielding_does_not_block_the_loop(bench: Bench) -> None:
    seen, ended = asyncio.Event(), asyncio.Event()

    async def steps() -> None:
        while not seen.is_set():
            await asyncio.sleep(0)
        ended.set()

    await bench.begin(steps, steps)
    bench.loop.call_soon(seen.set)
    await until(ended.is_set)


async def test_yield_to_batch_outside_a_batch_returns_at_once(bench: Bench) -> None:
    ran: list[str] = []

    async def steps() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        bench.loop.call_soon(ran.append, "next turn")
        await yield_to_batch()
        ran.append("ended")

    await bench.begin(steps)
    await until(lambda: len(ran) >= 2)
    assert ran == ["ended", "next turn"]


async def test_more_than_a_batch_run_in_order(bench: Bench) -> None:
    ran: list[int] = []

    def numbered(number: int) -> Steps:
        async def steps() -> None:
            await yield_to_batch()
            ran.append(number)

        return steps

    for number in range(2 * BATCH_SIZE + 1):
        bench.eager.start(numbered(number)())
    await asyncio.sleep(0)
    assert ran == list(range(BATCH_SIZE))
    bench.eager.start(numbered(2 * BATCH_SIZE + 1)())
    await until(lambda: len(ran) >= 2 * BATCH_SIZE + 2)
    assert ran == list(range(2 * BATCH_SIZE + 2))


async def test_many_coroutines_need_no_more_tasks_than_a_batch(bench: Bench) -> None:
    async def steps() -> None:
        pass

    tasks = len(asyncio.all_tasks())
    await bench.begin(*[steps] * (2 * BATCH_SIZE))
    await until(lambda: len(asyncio.all_tasks()) <= tasks + BATCH_SIZE)
    assert len(asyncio.all_tasks()) == tasks + BATCH_SIZE


async def test_a_coroutine_that_waits_keeps_its_task_and_context(bench: Bench) -> None:
    gate, ended = asyncio.Event(), asyncio.Event()
    tasks: list[object] = []

    async def steps() -> None:
        tasks.append(asyncio.current_task())
        token = colour.set("red")
        await gate.wait()
        await asyncio.sleep(0)
        tasks.append(asyncio.current_task())
        assert colour.get() == "red"
        colour.reset(token)
        ended.set()

    await bench.begin(steps)
    assert asyncio.current_task() not in tasks
    gate.set()
    await until(ended.is_set)
    assert tasks[0] is tasks[1]
    assert not bench.errors


async def test_the_value_awaited_and_the_error_raised_arrive(bench: Bench) -> None:
    good: asyncio.Future[int] = bench.loop.create_future()
    bad: asyncio.Future[int] = bench.loop.create_future()
    got: list[object] = []
    ended = asyncio.Event()

    async def steps() -> None:
        await asyncio.sleep(0)
        got.append(await good)
        try:
            await bad
        except ValueError as error:
            got.append(str(error))
        ended.set()

    await bench.begin(steps)
    good.set_result(7)
    bad.set_exception(ValueError("eight"))
    await until(ended.is_set)
    assert got == [7, "eight"]


async def test_the_first_wait_may_finish_before_the_task_takes_over(bench: Bench) -> None:
    done: asyncio.Future[int] = bench.loop.create_future()
    got: list[int] = []

    async def steps() -> None:
        got.append(await done)

    async def answer() -> None:
        done.set_result(3)

    await bench.begin(steps, answer)
    await until(lambda: got)
    assert got == [3]


async def test_context_variables_do_not_leak_to_the_next_coroutine(bench: Bench) -> None:
    seen: list[str] = []

    async def steps() -> None:
        seen.append(colour.get())
        colour.set("red")

    await bench.begin(steps, steps)
    await bench.begin(steps, steps)
    assert seen == ["none"] * 4


async def test_a_restored_context_is_reused(bench: Bench) -> None:
    tasks: set[str] = set()

    async def steps() -> None:
        token = colour.set("red")
        task = current()
        tasks.add(task.get_name())
        del task
        colour.reset(token)

    for _ in range(3):
        await bench.begin(steps)
    assert len(tasks) == 1


async def test_a_context_with_incomparable_values_is_not_reused(bench: Bench) -> None:
    class Unwilling:
        def __eq__(self, other: object) -> bool:
            raise ValueError("these are not to be compared")

        __hash__ = object.__hash__

    seen: list[object] = []
    thing: ContextVar[object] = ContextVar("thing")
    thing.set(Unwilling())

    async def steps() -> None:
        seen.append(type(thing.get()))
        thing.set(Unwilling())

    await bench.begin(steps)
    await bench.begin(steps)
    assert seen == [Unwilling, Unwilling]


async def test_a_referenced_task_is_not_reused(bench: Bench) -> None:
    kept: list[asyncio.Task[Any]] = []
    waited, gate = asyncio.Event(), asyncio.Event()

    async def keeping() -> None:
        task = current()
        kept.append(task)

    async def steps() -> None:
        kept[0].cancel()
        await gate.wait()
        waited.set()

    await bench.begin(keeping)
    await bench.begin(steps)
    gate.set()
    await until(waited.is_set)


@pytest.mark.parametrize("fresh", [True, False])
async def test_a_coroutine_that_cancels_itself_is_cancelled_at_its_next_wait(
    bench: Bench, fresh: bool
) -> None:
    pending: asyncio.Future[None] = bench.loop.create_future()
    ended: list[str] = []

    async def steps() -> None:
        task = current()
        task.cancel()
        try:
            await pending
        except asyncio.CancelledError:
            ended.append(f"cancelled {task.cancelling()}")
            raise

    if not fresh:
        await bench.warm()
    await bench.begin(steps)
    await until(lambda: ended)
    assert ended == ["cancelled 1"]
    assert pending.cancelled()
    assert not bench.errors


@pytest.mark.parametrize("fresh", [True, False])
async def test_a_coroutine_that_cancels_itself_without_waiting_cancels_no_other(
    bench: Bench, fresh: bool
) -> None:
    ended: list[str] = []

    async def cancelling() -> None:
        task = current()
        task.cancel()

    async def steps() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ended.append("ended")

    if not fresh:
        await bench.warm()
    await bench.begin(cancelling)
    await bench.begin(steps)
    await until(lambda: ended)


async def test_a_self_cancellation_does_not_reach_an_earlier_coroutine(bench: Bench) -> None:
    gate, ended = asyncio.Event(), asyncio.Event()

    async def steps() -> None:
        await gate.wait()
        ended.set()

    async def cancelling() -> None:
        bench.eager.start(steps())
        task = current()
        task.cancel()

    await bench.begin(nothing)
    await bench.begin(cancelling)
    gate.set()
    await until(ended.is_set)


@pytest.mark.parametrize("fresh", [True, False])
async def test_a_cancellation_before_the_second_step_is_not_lost(bench: Bench, fresh: bool) -> None:
    pending: asyncio.Future[None] = bench.loop.create_future()
    tasks: list[asyncio.Task[Any]] = []
    ended: list[str] = []

    async def steps() -> None:
        task = current()
        tasks.append(task)
        try:
            await pending
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ended.append("cleaned up")
            raise

    async def cancelling() -> None:
        tasks[0].cancel()

    if not fresh:
        await bench.warm()
    await bench.begin(steps, cancelling)
    await until(lambda: ended)
    assert pending.cancelled()
    await until(tasks[0].done)
    assert tasks[0].cancelled()


async def test_a_coroutine_that_swallows_its_cancellation_continues(bench: Bench) -> None:
    ended: list[int] = []

    async def steps() -> None:
        task = current()
        task.cancel()
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            task.uncancel()
        await asyncio.sleep(0)
        ended.append(task.cancelling())

    await bench.begin(steps)
    await until(lambda: ended)
    assert ended == [0]


async def test_timeouts_and_task_groups_see_the_right_task(bench: Bench) -> None:
    ended: list[str] = []

    async def late() -> None:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            ended.append("timed out")

    async def failing() -> None:
        raise ValueError("in the group")

    async def grouped() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(failing())
                await asyncio.Event().wait()
        except* ValueError:
            ended.append("failed together")

    await bench.begin(late, grouped)
    await until(lambda: len(ended) >= 2)
    assert sorted(ended) == ["failed together", "timed out"]


async def test_an_error_of_the_first_step_is_reported_and_affects_no_other(bench: Bench) -> None:
    ended: list[str] = []

    async def failing() -> None:
        raise ValueError("at once")

    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def steps() -> None:
        ended.append("ended")

    await bench.begin(failing, cancelled, steps)
    assert ended == ["ended"]
    assert [str(context["exception"]) for context in bench.errors] == ["at once"]


async def test_an_error_of_a_later_step_is_reported_too(bench: Bench) -> None:
    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("later")

    await bench.begin(failing)
    await until(lambda: gc.collect() < 0 or bench.errors)
    assert [str(context["exception"]) for context in bench.errors] == ["later"]


def test_system_exit_propagates_and_the_others_continue() -> None:
    ran: list[str] = []

    async def ending() -> None:
        await yield_to_batch()
        raise SystemExit(3)

    def named(name: str) -> Steps:
        async def steps() -> None:
            ran.append(f"{name} began")
            await yield_to_batch()
            ran.append(f"{name} went on")
            await yield_to_batch()
            ran.append(f"{name} ended")

        return steps

    async def begin() -> None:
        for steps in (named("a"), ending, named("b")):
            eager.start(steps())
        await asyncio.Event().wait()

    async def settle() -> None:
        await until(lambda: len(ran) >= 6)
        eager.close()
        beginning.cancel()
        await until(lambda: len(asyncio.all_tasks()) <= 1)

    loop = asyncio.new_event_loop()
    eager = Eager(loop)
    beginning = loop.create_task(begin())
    try:
        with pytest.raises(SystemExit):
            loop.run_until_complete(beginning)
        loop.run_until_complete(settle())
    finally:
        loop.close()
    assert ran[:3] == ["a began", "b began", "a went on"]
    assert sorted(ran[3:]) == ["a ended", "b ended", "b went on"]


async def test_a_coroutine_started_within_another_has_its_own_task(bench: Bench) -> None:
    tasks: list[object] = []

    async def inner() -> None:
        tasks.append(asyncio.current_task())

    async def outer() -> None:
        bench.eager.start(inner())
        tasks.append(asyncio.current_task())

    await bench.begin(outer)
    await until(lambda: len(tasks) >= 2)
    assert tasks[0] is not tasks[1]


async def test_a_spare_that_was_cancelled_is_replaced(bench: Bench) -> None:
    ended: list[str] = []
    gate = asyncio.Event()

    async def steps() -> None:
        await gate.wait()
        ended.append("ended")

    before = asyncio.all_tasks()
    await bench.begin(nothing)
    (spare,) = asyncio.all_tasks() - before
    spare.cancel()
    await asyncio.wait([spare], timeout=PATIENCE)
    await bench.begin(steps)
    gate.set()
    await until(lambda: ended)


async def test_after_close_coroutines_start_and_no_task_is_kept(bench: Bench) -> None:
    ended: list[str] = []

    async def steps() -> None:
        ended.append("ended")

    before = asyncio.all_tasks()
    await bench.begin(steps)
    bench.eager.close()
    await bench.begin(steps)
    assert ended == ["ended", "ended"]
    await until(lambda: asyncio.all_tasks() <= before)

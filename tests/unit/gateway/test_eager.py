"""Coroutines that begin together, and look like tasks from their first step to their last."""

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
    """An `Eager`, and what its loop heard of."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.eager = Eager(loop)
        self.errors: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: self.errors.append(context))

    async def begin(self, *steps: Steps) -> None:
        """Begin these one after the other, in one turn of the loop."""
        for each in steps:
            self.eager.start(each())
        await asyncio.sleep(0)

    async def warm(self) -> None:
        """Have a spare task that has begun to wait."""
        await self.begin(nothing)
        await asyncio.sleep(0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Afterwards no task may be left, once the spare has been let go."""
    before = asyncio.all_tasks()
    bench = Bench(asyncio.get_running_loop())
    yield bench
    bench.eager.close()
    await until(lambda: asyncio.all_tasks() <= before | {current()})


async def test_what_never_waits_needs_no_new_task(bench: Bench) -> None:
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


async def test_those_that_begin_together_go_on_side_by_side(bench: Bench) -> None:
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


async def test_who_gives_way_again_and_again_leaves_the_loop_to_others(bench: Bench) -> None:
    seen, ended = asyncio.Event(), asyncio.Event()

    async def steps() -> None:
        while not seen.is_set():
            await asyncio.sleep(0)
        ended.set()

    await bench.begin(steps, steps)
    bench.loop.call_soon(seen.set)
    await until(ended.is_set)


async def test_as_a_task_nobody_gives_way(bench: Bench) -> None:
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


async def test_many_take_turns_in_their_order(bench: Bench) -> None:
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


async def test_many_need_no_more_tasks_than_go_side_by_side(bench: Bench) -> None:
    async def steps() -> None:
        pass

    tasks = len(asyncio.all_tasks())
    await bench.begin(*[steps] * (2 * BATCH_SIZE))
    await until(lambda: len(asyncio.all_tasks()) <= tasks + BATCH_SIZE)
    assert len(asyncio.all_tasks()) == tasks + BATCH_SIZE


async def test_what_waits_goes_on_in_the_same_task_and_context(bench: Bench) -> None:
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


async def test_the_first_wait_may_be_over_before_the_task_takes_it(bench: Bench) -> None:
    done: asyncio.Future[int] = bench.loop.create_future()
    got: list[int] = []

    async def steps() -> None:
        got.append(await done)

    async def answer() -> None:
        done.set_result(3)

    await bench.begin(steps, answer)
    await until(lambda: got)
    assert got == [3]


async def test_what_one_puts_into_its_context_the_next_does_not_see(bench: Bench) -> None:
    seen: list[str] = []

    async def steps() -> None:
        seen.append(colour.get())
        colour.set("red")

    await bench.begin(steps, steps)
    await bench.begin(steps, steps)
    assert seen == ["none"] * 4


async def test_a_context_that_was_put_back_serves_again(bench: Bench) -> None:
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


async def test_values_that_cannot_be_compared_are_not_kept(bench: Bench) -> None:
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


async def test_a_task_that_somebody_keeps_is_not_used_again(bench: Bench) -> None:
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
async def test_who_cancels_itself_is_cancelled_where_it_waits(bench: Bench, fresh: bool) -> None:
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
async def test_who_cancels_itself_and_never_waits_cancels_nobody_else(bench: Bench, fresh: bool) -> None:
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


async def test_a_cancellation_of_oneself_does_not_reach_who_was_begun_before_it(bench: Bench) -> None:
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


async def test_a_swallowed_cancellation_lets_it_go_on(bench: Bench) -> None:
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


async def test_timeouts_and_groups_know_their_task(bench: Bench) -> None:
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


async def test_an_error_of_the_first_step_is_reported_and_hurts_no_other(bench: Bench) -> None:
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


def test_the_end_of_the_process_is_not_swallowed_and_the_others_go_on() -> None:
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


async def test_one_that_begins_within_another_is_not_taken_for_it(bench: Bench) -> None:
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


async def test_closed_it_keeps_no_task_and_still_begins(bench: Bench) -> None:
    ended: list[str] = []

    async def steps() -> None:
        ended.append("ended")

    before = asyncio.all_tasks()
    await bench.begin(steps)
    bench.eager.close()
    await bench.begin(steps)
    assert ended == ["ended", "ended"]
    await until(lambda: asyncio.all_tasks() <= before)

"""Memory goes back to the system after messages are gone, and in steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psutil
import pytest

from msctl.broker.core.queues import Queue
from msctl.broker.heap import FREEZE_AFTER, TRIM_AFTER, HeapTrimmer, LongLived, malloc_trim
from msctl.broker.protocol.wire import route_of
from msctl.broker.server import BrokerServer
from msctl.clock import SystemClock

KEPT = 96 * 1024 * 1024


def test_trims_once_for_each_large_drop() -> None:
    started: list[Callable[[], None]] = []
    heap = HeapTrimmer(lambda: None, started.append)
    for used, expected in (
        (10 * TRIM_AFTER, 0),
        (9 * TRIM_AFTER + 1, 0),
        (9 * TRIM_AFTER, 1),
        (5 * TRIM_AFTER, 1),  # still running
    ):
        heap.check(used)
        assert len(started) == expected
    heap.finished()
    heap.check(5 * TRIM_AFTER)
    assert len(started) == 2


def test_without_glibc_nothing_is_started() -> None:
    heap = HeapTrimmer(None, lambda _work: pytest.fail("nothing to run"))
    heap.check(10 * TRIM_AFTER)
    heap.check(0)
    assert not heap.running


@pytest.mark.skipif(malloc_trim() is None, reason="the C library is not glibc")
async def test_process_shrinks_after_a_purge() -> None:
    server = BrokerServer(clock=SystemClock(), log=lambda _level, _text: None)
    await server.start("127.0.0.1", 0)
    vhost = server._first_vhost
    queue: Queue = vhost.declare_queue(
        "q", None, durable=False, exclusive=False, auto_delete=False, arguments={}
    )
    route = route_of("", "q")
    for number in range(KEPT // 1024):
        queue.publish(route, b"\0\0", b"%d" % number + b"x" * 1000)
    full = psutil.Process().memory_info().rss
    server.purge("q")
    async with asyncio.timeout(60):
        while full - psutil.Process().memory_info().rss < KEPT // 2:
            await asyncio.sleep(0.02)
    await server.stop()


def test_what_stays_is_frozen_once_for_each_thousands_of_things() -> None:
    frozen: list[int] = []
    long_lived = LongLived(lambda: frozen.append(1))
    counts = []
    for things in (FREEZE_AFTER - 1, FREEZE_AFTER, 2 * FREEZE_AFTER - 1, 2 * FREEZE_AFTER, 10, FREEZE_AFTER):
        long_lived.check(things)
        counts.append(len(frozen))
    assert counts == [0, 1, 1, 2, 2, 2]
    long_lived.check(FREEZE_AFTER + 10)
    assert len(frozen) == 3

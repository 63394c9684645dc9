"""Readers of a broadcast get what they accept, in order, and never block the writer."""

from __future__ import annotations

from msctl.telemetry.logs.broadcast import Broadcast


async def test_each_subscription_gets_what_is_published_in_order() -> None:
    broadcast: Broadcast[int] = Broadcast()
    with broadcast.subscribe() as one, broadcast.subscribe() as two:
        for number in range(3):
            broadcast.publish(number)
        assert await one.take() == ([0, 1, 2], 0)
        assert await two.take() == ([0, 1, 2], 0)


async def test_a_subscription_gets_only_what_it_accepts() -> None:
    broadcast: Broadcast[int] = Broadcast()
    with broadcast.subscribe(lambda number: number % 2 == 0) as even:
        for number in range(4):
            broadcast.publish(number)
        assert await even.take() == ([0, 2], 0)


async def test_a_slow_reader_loses_the_oldest_and_gets_the_count() -> None:
    broadcast: Broadcast[int] = Broadcast(backlog=3)
    with broadcast.subscribe() as slow:
        for number in range(10):
            broadcast.publish(number)
        assert await slow.take() == ([7, 8, 9], 7)
        broadcast.publish(10)
        assert await slow.take() == ([10], 0)


async def test_a_closed_subscription_gets_nothing() -> None:
    broadcast: Broadcast[int] = Broadcast()
    with broadcast.subscribe() as ended:
        broadcast.publish(1)
    broadcast.publish(2)
    assert await ended.take() == ([1], 0)

"""One writer, many readers that may be slow: each reader has a bounded backlog of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Subscription(Generic[T]):
    """One reader's share. What does not fit is dropped, oldest first, and counted."""

    def __init__(self, accepts: Callable[[T], bool] | None, backlog: int) -> None:
        self._accepts = accepts
        self._items: deque[T] = deque(maxlen=backlog)
        self._missed = 0
        self._wake = asyncio.Event()

    def offer(self, item: T) -> None:
        if self._accepts is not None and not self._accepts(item):
            return
        if len(self._items) == self._items.maxlen:
            self._missed += 1
        self._items.append(item)
        self._wake.set()

    async def take(self) -> tuple[list[T], int]:
        """All that has come since the last call (at least one), and how many were dropped."""
        await self._wake.wait()
        self._wake.clear()
        items, missed = list(self._items), self._missed
        self._items.clear()
        self._missed = 0
        return items, missed


class Broadcast(Generic[T]):
    """Hands each published item to every subscription that accepts it; never waits for a reader."""

    def __init__(self, *, backlog: int = 10_000) -> None:
        self._backlog = backlog
        self._subscriptions: set[Subscription[T]] = set()

    def publish(self, item: T) -> None:
        for subscription in self._subscriptions:
            subscription.offer(item)

    @contextmanager
    def subscribe(self, accepts: Callable[[T], bool] | None = None) -> Iterator[Subscription[T]]:
        """A subscription to what is published while the context is open."""
        subscription = Subscription(accepts, self._backlog)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

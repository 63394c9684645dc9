"""One writer, many readers of any speed: each reader has its own bounded backlog."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Subscription(Generic[T]):
    """One reader's backlog. When it is full, the oldest item is dropped and counted."""

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
        """Wait for items; returns all since the last call and the number of dropped ones."""
        await self._wake.wait()
        self._wake.clear()
        items, missed = list(self._items), self._missed
        self._items.clear()
        self._missed = 0
        return items, missed


class Broadcast(Generic[T]):
    """Publishes items to all subscriptions that accept them; never waits for a reader."""

    def __init__(self, *, backlog: int = 10_000) -> None:
        self._backlog = backlog
        self._subscriptions: set[Subscription[T]] = set()

    def publish(self, item: T) -> None:
        for subscription in self._subscriptions:
            subscription.offer(item)

    @contextmanager
    def subscribe(self, accepts: Callable[[T], bool] | None = None) -> Iterator[Subscription[T]]:
        """Subscribe to the items published while the context is open."""
        subscription = Subscription(accepts, self._backlog)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

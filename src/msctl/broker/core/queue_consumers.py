"""Who gets the messages of a queue: all its consumers, and those that are served now. Pure.

`ring` has the consumers among which the queue chooses. Without a single active consumer that is everyone;
with one (x-single-active-consumer) the ring has the active one alone, and it stays until it is removed and
holds no message any more. Then the remaining one of the highest priority follows.
"""

from __future__ import annotations

from collections.abc import Iterator

from msctl.broker.core.consumers import ConsumerRing, QueueConsumer


class QueueConsumers:
    """The consumers of one queue, in the order in which they came."""

    __slots__ = ("_active", "_all", "_single_active", "ring")

    def __init__(self, ring: ConsumerRing, *, single_active: bool) -> None:
        self.ring = ring
        self._all: list[QueueConsumer] = []
        self._single_active = single_active
        self._active: QueueConsumer | None = None

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[QueueConsumer]:
        return iter(self._all)

    @property
    def active(self) -> QueueConsumer | None:
        """The single active consumer, if the queue has one."""
        return self._active if self._active in self._all else None

    def refuses(self, *, exclusive: bool) -> bool:
        """Whether the queue is in exclusive use, or cannot be if another consumer wants that."""
        if any(consumer.exclusive for consumer in self._all):
            return True
        return exclusive and (bool(self._all) or self._single_active)

    def add(self, consumer: QueueConsumer) -> None:
        self._all.append(consumer)
        if not self._single_active:
            self.ring.add(consumer)
        elif self._active is None:
            self._activate(consumer)
        else:
            consumer.waiting = False

    def remove(self, consumer: QueueConsumer) -> bool:
        """Remove a consumer; return whether another one is active now.

        While a single active consumer still holds messages (`held`), the next one is not activated.
        """
        self._all.remove(consumer)
        self.ring.remove(consumer)
        consumer.waiting = False
        return not consumer.held and self.released(consumer)

    def released(self, consumer: QueueConsumer) -> bool:
        """A removed consumer holds no message any more; return whether another one is active now."""
        if consumer is not self._active:
            return False
        self._active = None
        if not self._all:
            return False
        self._activate(max(self._all, key=lambda each: each.priority))
        return True

    def _activate(self, consumer: QueueConsumer) -> None:
        self._active = consumer
        self.ring.add(consumer)

    def clear(self) -> list[QueueConsumer]:
        """Remove and return all consumers."""
        consumers, self._all = self._all, []
        self.ring.clear()
        for consumer in consumers:
            consumer.waiting = False
        return consumers

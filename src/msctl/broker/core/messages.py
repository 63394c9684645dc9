"""Messages as queues hold them, and the order in which a queue gives them out. Pure.

A message is an exact tuple of atoms, not an object of a class: Python's garbage collector stops
looking at such tuples, so a million waiting messages cost it nothing, and the copies of one message
in many queues are one tuple.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

Message = tuple[bytes, bytes, bytes, float | None]
"""Route (exchange and routing key as on the wire), properties, body, and when it expires (monotonic)."""

Taken = tuple[int, Message]
"""A message that was given out and has not been settled, with its place in the queue."""

MESSAGE_COST = 160
"""Bytes that a waiting message takes beside its body and properties, as measured with tiny ones."""


def cost_of(message: Message) -> int:
    """What a message in a queue's care weighs against the broker's memory limit."""
    return MESSAGE_COST + len(message[2])


class Level:
    """Messages of one priority: those given back first, in their original order, then the others.

    What was never taken is younger than all that was, so a number is given only to what is taken.
    """

    __slots__ = ("fresh", "returned")

    def __init__(self) -> None:
        self.fresh: deque[Message] = deque()
        self.returned: list[tuple[int, Message]] = []

    def __len__(self) -> int:
        return len(self.fresh) + len(self.returned)


class ReadyMessages:
    """What a queue has to give: levels by priority, the highest first."""

    __slots__ = ("_levels", "bytes", "count")

    def __init__(self, max_priority: int = 0) -> None:
        self._levels = [Level() for _ in range(max_priority + 1)]
        self.count = 0
        self.bytes = 0

    def add(self, message: Message, priority: int) -> None:
        levels = self._levels
        levels[min(priority, len(levels) - 1)].fresh.append(message)
        self.count += 1
        self.bytes += len(message[2])

    def give_back(self, number: int, message: Message, priority: int) -> None:
        """Put a message that was taken as `number` where it came from."""
        levels = self._levels
        heapq.heappush(levels[min(priority, len(levels) - 1)].returned, (number, message))
        self.count += 1
        self.bytes += len(message[2])

    def head(self) -> Message | None:
        for level in reversed(self._levels):
            if level.returned:
                return level.returned[0][1]
            if level.fresh:
                return level.fresh[0]
        return None

    def take(self) -> tuple[int | None, Message]:
        """The first message, and its number if it was taken before. IndexError when there is none."""
        for level in reversed(self._levels):
            if level.returned:
                number: int | None
                number, message = heapq.heappop(level.returned)
            elif level.fresh:
                number, message = None, level.fresh.popleft()
            else:
                continue
            self.count -= 1
            self.bytes -= len(message[2])
            return number, message
        raise IndexError("no message is ready")

    def waiting(self) -> Iterator[tuple[Message, bool]]:
        """The messages in the order in which `take` gives them, and whether each was taken before.

        Takes nothing, and costs by how far it is read. To be read before anything changes.
        """
        for level in reversed(self._levels):
            for _, message in _in_order(level.returned):
                yield message, True
            for message in level.fresh:
                yield message, False

    def clear(self) -> int:
        """Drop all; returns how many there were."""
        count = self.count
        for level in self._levels:
            level.fresh.clear()
            level.returned.clear()
        self.count = self.bytes = 0
        return count


def _in_order(heap: list[tuple[int, Message]]) -> Iterator[tuple[int, Message]]:
    """The items of a heap from the least on, without sorting more of it than is read."""
    next_ones = [(heap[0], 0)] if heap else []
    while next_ones:
        item, place = heapq.heappop(next_ones)
        yield item
        for child in (2 * place + 1, 2 * place + 2):
            if child < len(heap):
                heapq.heappush(next_ones, (heap[child], child))

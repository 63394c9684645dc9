"""Messages as queues hold them, and their order. Pure.

A message is a plain tuple of atomic values, not an instance of a class. Python's garbage collector
untracks such tuples, so a million waiting messages add nothing to a collection, and the copies of one
message in several queues share one tuple. A subclass of tuple or a mutable member would break this.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator

Message = tuple[bytes, bytes, bytes, float | None, int]
"""Route (exchange and routing key as on the wire), properties, body, when it expires (monotonic), and the
number of its entry in the log (0: it is in memory only)."""

Taken = tuple[int, Message]
"""A message that left the queue and is unacknowledged, with its number in the queue's order."""

MESSAGE_COST = 160
"""Bytes that a waiting message takes besides its body and properties (measured with small messages)."""


def cost_of(message: Message) -> int:
    """The bytes that a message counts against the broker's memory limit."""
    return MESSAGE_COST + len(message[1]) + len(message[2])


class Level:
    """Messages of one priority: requeued ones first, in their original order, then fresh ones.

    A fresh message is younger than every message taken before it, so numbers are only given to
    messages when they are taken. `recovered` are messages that an earlier run of the broker may have
    delivered. They are between the two, have the numbers up to `recovered_last`, and count as taken; a level
    without them has no deque for them.
    """

    __slots__ = ("fresh", "recovered", "recovered_last", "returned")

    def __init__(self) -> None:
        self.fresh: deque[Message] = deque()
        self.recovered: deque[Message] | None = None
        self.recovered_last = 0
        self.returned: list[tuple[int, Message]] = []

    def __len__(self) -> int:
        return len(self.fresh) + len(self.recovered or ()) + len(self.returned)


class ReadyMessages:
    """The ready messages of a queue: one level per priority, the highest first."""

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
        """Return the message taken as `number` to its original position."""
        levels = self._levels
        heapq.heappush(levels[min(priority, len(levels) - 1)].returned, (number, message))
        self.count += 1
        self.bytes += len(message[2])

    def recover(
        self,
        messages: Iterable[Message],
        delivered: Container[int] | None,
        priority: Callable[[Message], int] = lambda _message: 0,
    ) -> int:
        """Add messages in order; return the highest number that they have.

        `delivered` has the entry numbers of those that have been delivered before; None means all.
        """
        levels = self._levels
        for message in messages:
            level = levels[min(priority(message), len(levels) - 1)]
            if delivered is None or message[4] in delivered:
                if level.recovered is None:
                    level.recovered = deque()
                level.recovered.append(message)
            else:
                level.fresh.append(message)
            self.count += 1
            self.bytes += len(message[2])
        for level in levels:
            level.recovered_last = len(level.recovered or ())
        return max(level.recovered_last for level in levels)

    def redelivered(self) -> list[Message]:
        """The messages that have been delivered before."""
        return [message for message, taken in self.waiting() if taken]

    def head(self) -> Message | None:
        for level in reversed(self._levels):
            if level.returned:
                return level.returned[0][1]
            if level.recovered:
                return level.recovered[0]
            if level.fresh:
                return level.fresh[0]
        return None

    def take(self) -> tuple[int | None, Message]:
        """Remove and return the first message, and its number if it was taken before. Raises IndexError."""
        for level in reversed(self._levels):
            if level.returned:
                number: int | None
                number, message = heapq.heappop(level.returned)
            elif level.recovered:
                number = level.recovered_last + 1 - len(level.recovered)
                message = level.recovered.popleft()
            elif level.fresh:
                number, message = None, level.fresh.popleft()
            else:
                continue
            self.count -= 1
            self.bytes -= len(message[2])
            return number, message
        raise IndexError("no message is ready")

    def waiting(self) -> Iterator[tuple[Message, bool]]:
        """The messages in the order of `take`, each with whether it was taken before.

        Lazy: the cost grows with how far it is read. Invalid once the queue changes.
        """
        for level in reversed(self._levels):
            for _, message in _in_order(level.returned):
                yield message, True
            for message in level.recovered or ():
                yield message, True
            for message in level.fresh:
                yield message, False

    def detach(self) -> list[deque[Message] | list[Taken]]:
        """Remove and return all messages, in constant time per priority."""
        levels, self._levels = self._levels, [Level() for _ in self._levels]
        self.count = self.bytes = 0
        return [part for level in levels for part in (level.fresh, level.recovered, level.returned) if part]


def _in_order(heap: list[tuple[int, Message]]) -> Iterator[tuple[int, Message]]:
    """The items of a heap in ascending order; sorts only as far as it is read."""
    next_ones = [(heap[0], 0)] if heap else []
    while next_ones:
        item, place = heapq.heappop(next_ones)
        yield item
        for child in (2 * place + 1, 2 * place + 2):
            if child < len(heap):
                heapq.heappush(next_ones, (heap[child], child))

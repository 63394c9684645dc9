"""What became of each message of a simulated broker. Pure.

A message counts as taken when the broker has confirmed it, or would have without confirms: one that must be
in the log does not count if a crash came before it was there. It is done when a consumer acknowledged or
rejected it, or it was dead-lettered. Messages are told apart by their properties and body.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

Content = tuple[bytes, bytes]
"""Properties and body."""


class Ledger:
    """The messages of all queues, by the queue's name."""

    def __init__(self) -> None:
        self._taken: dict[str, list[tuple[int, Content]]] = {}
        self._done: dict[str, Counter[Content]] = {}

    def took(self, queue: str, content: Content, position: int) -> None:
        """A queue has a message, which is safe once the log is written up to `position` (0: at once)."""
        self._taken.setdefault(queue, []).append((position, content))

    def done(self, queue: str, content: Content) -> None:
        self._done.setdefault(queue, Counter())[content] += 1

    def crashed(self, durable: int) -> None:
        """The broker ended when its log was safe up to `durable`; the next life counts positions from 1."""
        for queue, taken in self._taken.items():
            self._taken[queue] = [(0, content) for position, content in taken if position <= durable]

    def lost(self, queue: str, waiting: Iterable[Content]) -> list[bytes]:
        """The bodies of the messages that the queue took, and that are neither done nor still there."""
        left = Counter(content for _, content in self._taken.get(queue, ()))
        left.subtract(self._done.get(queue, Counter()))
        left.subtract(Counter(waiting))
        return [body for (_, body), count in left.items() for _ in range(count)]

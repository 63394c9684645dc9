"""The memory that messages use, counters, and messages that wait to be freed. Pure.

Freeing a million messages takes most of a second, so a purge or the deletion of a queue detaches its
messages at once and leaves them here. `free` releases them in slices. Until then they count as used
memory, because they are, but as messages of no queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msctl.broker.core.journal import Journal
from msctl.broker.core.messages import Message, Taken, cost_of

Detached = deque[Message] | list[Taken]
"""Messages that have left their queue: fresh ones, or those that had been taken before."""


class MemoryAccount:
    """Bytes of memory that messages use, the number of messages in queues, and total counters."""

    __slots__ = ("_detached", "acked", "delivered", "journal", "messages", "published", "used")

    def __init__(self) -> None:
        self.used = 0
        self.messages = 0
        self.published = 0
        self.delivered = 0
        self.acked = 0
        self.journal: Journal | None = None
        """The log that the messages with an entry number are in."""
        self._detached: list[Detached] = []

    def discard(self, detached: Sequence[Detached]) -> None:
        """Take messages out of the count of messages, to be freed later."""
        for messages in detached:
            if messages:
                self.messages -= len(messages)
                self._detached.append(messages)

    @property
    def has_discarded(self) -> bool:
        return bool(self._detached)

    def free(self, limit: int) -> int:
        """Free up to `limit` discarded messages and return their number."""
        freed = 0
        while self._detached and freed < limit:
            messages = self._detached[-1]
            count = min(limit - freed, len(messages))
            journal = self.journal
            if isinstance(messages, deque):
                for _ in range(count):
                    message = messages.pop()
                    self.used -= cost_of(message)
                    if message[4] and journal is not None:
                        journal.forget(message)
            else:
                for _ in range(count):
                    message = messages.pop()[1]
                    self.used -= cost_of(message)
                    if message[4] and journal is not None:
                        journal.forget(message)
            if not messages:
                self._detached.pop()
            freed += count
        return freed

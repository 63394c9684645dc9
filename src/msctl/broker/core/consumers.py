"""Consumers of a queue: which of them gets the next message. Pure.

Round robin within a priority, higher priorities first; who cannot take a message now is set aside
until something changes for it, so that choosing costs the same however many there are.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from msctl.broker.core.messages import Message, Taken

UNLIMITED = -1


class MessageSource(Protocol):
    """A queue, as its consumers and those who hold its messages see it."""

    def add_consumer(self, consumer: QueueConsumer) -> None: ...

    def remove_consumer(self, consumer: QueueConsumer) -> None: ...

    def wake(self, consumer: QueueConsumer) -> None:
        """This consumer may take messages again."""
        ...

    def ack(self, message: Message) -> None: ...

    def reject(self, message: Message) -> None: ...

    def requeue(self, taken: list[Taken]) -> None: ...


class Sink(Protocol):
    """Where a consumer's messages go: its channel."""

    def accepts(self, consumer: QueueConsumer) -> bool:
        """Whether this consumer may be sent a message now; if not, it is woken when it may."""
        ...

    def deliver(self, consumer: QueueConsumer, number: int, message: Message, redelivered: bool) -> None: ...

    def cancelled(self, consumer: QueueConsumer) -> None:
        """The queue is gone, and with it this consumer."""
        ...


class QueueConsumer:
    """A subscription. `credit` is how many more messages it may hold, UNLIMITED without a limit.

    `head`, `tail` and what they were made for are the channel's: the parts of the last delivery's
    frames, which mostly fit the next one too.
    """

    __slots__ = (
        "_made_for_properties",
        "_made_for_route",
        "_made_for_size",
        "credit",
        "exclusive",
        "head",
        "no_ack",
        "priority",
        "queue",
        "sink",
        "tag",
        "tail",
        "waiting",
    )

    def __init__(
        self,
        tag: str,
        queue: MessageSource,
        sink: Sink,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        priority: int = 0,
        prefetch: int = 0,
    ) -> None:
        self.tag = tag
        self.queue = queue
        self.sink = sink
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.priority = priority
        self.credit = prefetch if prefetch and not no_ack else UNLIMITED
        self.waiting = False
        self.head = b""
        self.tail = b""
        self._made_for_route = b""
        self._made_for_properties = b""
        self._made_for_size = -1

    def fits(self, message: Message) -> bool:
        """Whether `head` and `tail` are right for this message; remembers it as what they are for."""
        route, properties, body, _ = message
        if (
            route is self._made_for_route
            and properties is self._made_for_properties
            and len(body) == self._made_for_size
        ):
            return True
        self._made_for_route = route
        self._made_for_properties = properties
        self._made_for_size = len(body)
        return False

    def wake(self) -> None:
        """Something has changed for it: let its queue try it again."""
        if self.waiting:
            self.queue.wake(self)


class ConsumerRing:
    """The consumers of a queue that may be asked, by priority."""

    __slots__ = ("_levels", "_single")

    def __init__(self) -> None:
        self._levels: dict[int, deque[QueueConsumer]] = {}
        self._single: deque[QueueConsumer] | None = None

    def add(self, consumer: QueueConsumer) -> None:
        consumer.waiting = False
        self._levels.setdefault(consumer.priority, deque()).append(consumer)
        self._arrange()

    def remove(self, consumer: QueueConsumer) -> None:
        level = self._levels.get(consumer.priority)
        if level is not None and consumer in level:
            level.remove(consumer)
            self._arrange()

    def choose(self) -> QueueConsumer | None:
        """Whose turn it is, among those that can take a message; the others are set aside."""
        if self._single is not None:
            return self._choose_from(self._single)
        for priority in sorted(self._levels, reverse=True):
            consumer = self._choose_from(self._levels[priority])
            if consumer is not None:
                return consumer
        return None

    @staticmethod
    def _choose_from(level: deque[QueueConsumer]) -> QueueConsumer | None:
        while level:
            consumer = level[0]
            if consumer.credit and consumer.sink.accepts(consumer):
                if len(level) > 1:
                    level.rotate(-1)
                return consumer
            level.popleft()
            consumer.waiting = True
        return None

    def _arrange(self) -> None:
        for priority in [priority for priority, level in self._levels.items() if not level]:
            if len(self._levels) > 1:
                del self._levels[priority]
        self._single = next(iter(self._levels.values())) if len(self._levels) == 1 else None

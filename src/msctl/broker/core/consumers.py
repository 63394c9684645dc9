"""The consumers of a queue, and which of them gets the next message. Pure.

Round robin within a priority, higher priorities first. A consumer that cannot take a message leaves
the ring until `wake`, so that choosing takes constant time however many consumers wait.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from msctl.broker.core.messages import Message, Taken
from msctl.broker.protocol.tables import Table

UNLIMITED = -1


class MessageSource(Protocol):
    """A queue, as its consumers and channels see it."""

    name: str

    def add_consumer(self, consumer: QueueConsumer) -> None: ...

    def remove_consumer(self, consumer: QueueConsumer) -> None: ...

    def wake(self, consumer: QueueConsumer) -> None:
        """Return the consumer to the ring."""
        ...

    def released(self, consumer: QueueConsumer) -> None:
        """A removed consumer holds no message any more."""
        ...

    @property
    def hands_over_in_order(self) -> bool:
        """Whether the next single active consumer waits for the messages that the last one holds."""
        ...

    def ack(self, message: Message) -> None: ...

    def reject(self, message: Message) -> None: ...

    def requeue(self, taken: list[Taken]) -> None: ...


class Sink(Protocol):
    """The channel of a consumer."""

    def accepts(self, consumer: QueueConsumer) -> bool:
        """Whether the consumer may get a message now; if not, the sink wakes it later."""
        ...

    def deliver(
        self,
        consumer: QueueConsumer,
        number: int,
        message: Message,
        redelivered: bool,
        *,
        original: Message | None = None,
    ) -> None:
        """Send `message`; `original` is what the queue holds where it added headers."""
        ...

    def cancelled(self, consumer: QueueConsumer) -> None:
        """Remove the consumer: its queue was deleted."""
        ...


class ConsumerChannel(Protocol):
    """The channel on which a consumer was started, as a listing shows it."""

    number: int
    connection: Any


class QueueConsumer:
    """A consumer of one queue. `credit` is how many more messages it may hold, or UNLIMITED.

    `held` counts the unacknowledged messages of a consumer that was cancelled, where the queue waits for
    them before it serves the next one.

    `head` and `tail` cache the frame bytes of its last delivery for the channel, see
    `session.deliveries`.
    """

    __slots__ = (
        "_made_for_properties",
        "_made_for_route",
        "_made_for_size",
        "arguments",
        "channel",
        "credit",
        "exclusive",
        "head",
        "held",
        "no_ack",
        "prefetch",
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
        arguments: Table | None = None,
        channel: ConsumerChannel | None = None,
    ) -> None:
        self.tag = tag
        self.arguments: Table = arguments or {}
        self.channel = channel
        self.prefetch = prefetch
        self.queue = queue
        self.sink = sink
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.priority = priority
        self.credit = prefetch if prefetch and not no_ack else UNLIMITED
        self.waiting = False
        self.held = 0
        self.head = b""
        self.tail = b""
        self._made_for_route = b""
        self._made_for_properties = b""
        self._made_for_size = -1

    def fits(self, message: Message) -> bool:
        """Whether `head` and `tail` fit this message; if not, record it as the one they will fit."""
        route, properties, body, _, _ = message
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
        """Return to the queue's ring if set aside."""
        if self.waiting:
            self.queue.wake(self)


class ConsumerRing:
    """The consumers of a queue that may get a message, by priority."""

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

    def clear(self) -> None:
        self._levels = {}
        self._single = None

    def choose(self) -> QueueConsumer | None:
        """The next consumer that can take a message; those that cannot are set aside."""
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

"""A queue whose messages can arrive twice, late, or in another order, and which keeps a ledger of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from msctl.broker.core.arguments import QueueOptions
from msctl.broker.core.consumers import ConsumerRing, QueueConsumer
from msctl.broker.core.journal import Entries
from msctl.broker.core.messages import Message, Taken
from msctl.broker.core.queues import REJECTED, Queue, QueueHost
from msctl.broker.protocol.properties import priority_of
from msctl.broker.storage.log import Log
from msctl.simulation.ledger import Ledger


class MessageFaults(Protocol):
    """What a queue asks for the faults of its messages."""

    ledger: Ledger
    holding: bool
    """Whether queues keep what they have for a while."""

    def duplicates(self, queue: str) -> bool:
        """Whether the message that arrives now does so twice."""
        ...

    def delivered(self, queue: str, consumer: QueueConsumer, message: Message) -> None:
        """A message leaves for a consumer that acknowledges."""
        ...

    def settled(self, queue: str, message: Message, problem: str = "") -> None:
        """It was acknowledged, or came back: `problem` says how."""
        ...

    def shuffle(self, queue: str, messages: list[Message]) -> None:
        """Change the order of the messages that were held, if they are to be in another one."""
        ...


class _HeldRing(ConsumerRing):
    """A ring that has no consumer while messages are held."""

    __slots__ = ("_faults",)

    def __init__(self, faults: MessageFaults) -> None:
        super().__init__()
        self._faults = faults

    def choose(self) -> QueueConsumer | None:
        return None if self._faults.holding else super().choose()


class SimulatedQueue(Queue):
    """A queue of a simulated broker."""

    __slots__ = ("_away", "_faults")

    def __init__(
        self, name: str, host: QueueHost, options: QueueOptions, faults: MessageFaults, **rest: object
    ) -> None:
        super().__init__(name, host, options, ring=_HeldRing(faults), **rest)  # type: ignore[arg-type]  # passed on as they are
        self._faults = faults
        self._away: Counter[tuple[bytes, bytes]] = Counter()
        """The messages that are unacknowledged."""

    def publish(
        self,
        route: bytes,
        properties: bytes,
        body: bytes,
        ttl_ms: int | None = None,
        priority: int = 0,
        entries: Entries | None = None,
    ) -> bool:
        accepted = self._accept(route, properties, body, ttl_ms, priority, entries)
        if accepted and self._faults.duplicates(self.name):
            self._accept(route, properties, body, ttl_ms, priority, entries)
        return accepted

    def _accept(
        self,
        route: bytes,
        properties: bytes,
        body: bytes,
        ttl_ms: int | None,
        priority: int,
        entries: Entries | None,
    ) -> bool:
        journal = self.host.memory.journal
        stored = entries is not None and self.entry and isinstance(journal, Log)
        self._faults.ledger.took(
            self.name, (properties, body), journal.position if stored and isinstance(journal, Log) else 0
        )
        accepted = super().publish(route, properties, body, ttl_ms, priority, entries)
        if not accepted:
            self._faults.ledger.done(self.name, (properties, body))
        return accepted

    def ack(self, message: Message) -> None:
        self._faults.ledger.done(self.name, message[1:3])
        self._away[message[1:3]] -= 1
        self._faults.settled(self.name, message)
        super().ack(message)

    def reject(self, message: Message) -> None:
        self._away[message[1:3]] -= 1
        self._faults.settled(self.name, message, "rejected")
        super().reject(message)

    def requeue(self, taken: Iterable[Taken]) -> None:
        returned = list(taken)
        for _, message in returned:
            self._away[message[1:3]] -= 1
            self._faults.settled(self.name, message, "not acknowledged: it is delivered again")
        super().requeue(returned)

    def dispatch(
        self, consumer: QueueConsumer, number: int, message: Message, *, redelivered: bool, known: bool
    ) -> None:
        if consumer.no_ack:
            self._faults.ledger.done(self.name, message[1:3])
        else:
            self._away[message[1:3]] += 1
            self._faults.delivered(self.name, consumer, message)
        super().dispatch(consumer, number, message, redelivered=redelivered, known=known)

    def get(self, *, no_ack: bool) -> tuple[int, Message, bool] | None:
        found = super().get(no_ack=no_ack)
        if found is not None and no_ack:
            self._faults.ledger.done(self.name, found[1][1:3])
        elif found is not None:
            self._away[found[1][1:3]] += 1
        return found

    def dead_letter(self, message: Message, reason: str) -> None:
        if reason == REJECTED or self.options.dead_letter_exchange is not None:
            self._faults.ledger.done(self.name, message[1:3])
        super().dead_letter(message, reason)

    def contents(self) -> list[tuple[bytes, bytes]]:
        """Properties and body of the messages that are ready or unacknowledged."""
        return [*(message[1:3] for message, _ in self.ready.waiting()), *self._away.elements()]

    def let_go(self) -> None:
        """Deliver what was held, the messages that nobody has seen yet in the order that the faults give."""
        known: list[tuple[int, Message]] = []
        fresh: list[Message] = []
        while self.ready.count:
            number, message = self.ready.take()
            if number is None:
                fresh.append(message)
            else:
                known.append((number, message))
        self._faults.shuffle(self.name, fresh)
        has_priorities = self.options.max_priority > 0
        for number, message in known:
            self.ready.give_back(number, message, priority_of(message[1]) if has_priorities else 0)
        for message in fresh:
            self.ready.add(message, priority_of(message[1]) if has_priorities else 0)
        self.host.pump_later(self)

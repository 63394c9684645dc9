"""A queue: its ready and unacknowledged messages, and the limits of its arguments. Pure.

Behaves as RabbitMQ's classic queue. Messages leave at the head and are requeued at their old position.
With x-queue-type quorum, requeued messages leave in the order of their return, see `quorum`. Its consumers
are in `queue_consumers`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Protocol

from msctl.broker.core.arguments import DROP_HEAD, QUORUM, REJECT_PUBLISH_DLX, QueueOptions
from msctl.broker.core.consumers import ConsumerRing, QueueConsumer
from msctl.broker.core.journal import Entries, Journal
from msctl.broker.core.memory import MemoryAccount
from msctl.broker.core.messages import MESSAGE_COST, Message, ReadyMessages, Taken, cost_of
from msctl.broker.core.policies import NONE, Applied, queue_options
from msctl.broker.core.queue_consumers import QueueConsumers
from msctl.broker.core.quorum import (
    DELIVERY_LIMIT,
    NUMBER_STEP,
    returned_number,
    returns_of,
    with_delivery_count,
)
from msctl.broker.protocol.properties import priority_of
from msctl.broker.protocol.replies import AmqpError, ReplyCode, resource
from msctl.broker.protocol.tables import Table
from msctl.clock import Clock

EXPIRED = "expired"
REJECTED = "rejected"
MAXLEN = "maxlen"


EXPIRED_PER_STEP = 500
"""Expired messages that one step drops; the rest follow in the next turns."""
DROPPED_PER_STEP = 500
"""Messages beyond a new limit of the queue's length that one step drops."""
EXPIRED_PER_PUBLISH = 4
"""Expired messages that a publish drops, so that a burst of publishes stays cheap."""


class ExpiringError(Exception):
    """More messages at the head of the queue have expired than one step drops: try again next turn."""


class QueueHost(Protocol):
    """The virtual host, as its queues see it."""

    name: str
    clock: Clock
    memory: MemoryAccount

    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None: ...

    def remind(self, queue: Queue, when: float) -> None:
        """Call `queue.tick` at or soon after `when` (monotonic)."""
        ...

    def pump_later(self, queue: Queue) -> None:
        """Call `queue.pump` soon: the queue has messages and may have a consumer for them."""
        ...

    def delete_queue(self, queue: Queue) -> int: ...


class Queue:
    """One queue. The virtual host creates and deletes it; channels publish, take and acknowledge."""

    __slots__ = (
        "__weakref__",
        "_counts_returns",
        "_limited",
        "_next_number",
        "_plain",
        "_reminded",
        "_ring",
        "_step",
        "_timed",
        "acked",
        "applied",
        "arguments",
        "auto_delete",
        "consumers",
        "declared",
        "deleted",
        "delivered",
        "delivered_no_ack",
        "durable",
        "entry",
        "got",
        "got_no_ack",
        "got_nothing",
        "host",
        "last_used",
        "name",
        "options",
        "owner",
        "published",
        "ready",
        "redelivered",
        "taken",
        "unacked",
    )

    def __init__(
        self,
        name: str,
        host: QueueHost,
        options: QueueOptions,
        *,
        durable: bool = False,
        auto_delete: bool = False,
        owner: object | None = None,
        arguments: Table | None = None,
        applied: Applied = NONE,
        ring: ConsumerRing | None = None,
    ) -> None:
        """`options` are those of the arguments, `applied` the policies for the queue.

        A simulation gives a `ring` of its own.
        """
        self.name = name
        self.host = host
        self.declared = options
        self.applied = applied
        self.options = options = queue_options(options, arguments or {}, applied.definition)
        self.durable = durable
        self.auto_delete = auto_delete
        self.owner = owner
        self.arguments: Table = arguments or {}
        self.entry = 0
        """The queue's number in the log; 0: it is in memory only."""
        self.ready = ReadyMessages(options.max_priority)
        self.unacked = 0
        self.taken: set[int] = set()
        """The entry numbers of unacknowledged messages."""
        self.published = 0
        self.delivered = 0
        """Messages that left for a consumer or a basic.get."""
        self.delivered_no_ack = 0
        self.redelivered = 0
        self.got = self.got_no_ack = self.got_nothing = 0
        self.acked = 0
        self.consumers = QueueConsumers(ring or ConsumerRing(), single_active=options.single_active_consumer)
        self.deleted = False
        self.last_used = host.clock.monotonic()
        self._ring = self.consumers.ring
        self._next_number = 0
        self._counts_returns = options.kind == QUORUM
        self._step = NUMBER_STEP if self._counts_returns else 1
        self._timed = False
        self._reminded: float | None = None
        self._read_options()
        self._remind_unused()

    def _read_options(self) -> None:
        options = self.options
        self._limited = options.max_length is not None or options.max_bytes is not None
        self._plain = not self._limited and options.message_ttl is None

    def apply(self, applied: Applied) -> None:
        """Follow other policies. A new message TTL holds for messages that are published from now on."""
        if applied == self.applied:
            return
        before, self.applied = self.options, applied
        self.options = queue_options(self.declared, self.arguments, applied.definition)
        self._read_options()
        if self.options.expires != before.expires:
            self.touch()
        if self._limited and self.options.overflow == DROP_HEAD:
            self._drop_overflow(DROPPED_PER_STEP)

    def check_access(self, owner: object | None, *, strict: bool = False) -> None:
        """Raises AmqpError 405 if the queue belongs to another connection; `strict` is for declare."""
        if self.owner is owner or (self.owner is None and not strict):
            return
        raise AmqpError(
            ReplyCode.RESOURCE_LOCKED,
            f"cannot obtain exclusive access to locked {resource('queue', self.name, self.host.name)}. "
            "It could be originally declared on another connection or the exclusive property value "
            "does not match that of the original declaration.",
        )

    # --- messages in ---

    def publish(
        self,
        route: bytes,
        properties: bytes,
        body: bytes,
        ttl_ms: int | None = None,
        priority: int = 0,
        entries: Entries | None = None,
    ) -> bool:
        """Deliver a message to a consumer or add it; return False if the queue rejects it.

        `entries`, for a persistent message, gets its entry in the log if the queue stores it.
        """
        expires = None
        if ttl_ms is not None or not self._plain:
            if self._limited and self._would_overflow(len(body)):
                if self.options.overflow == REJECT_PUBLISH_DLX:
                    self.host.dead_letter(self, (route, properties, body, None, 0), MAXLEN)
                return False
            ttl = _least(ttl_ms, self.options.message_ttl)
            if ttl is not None:
                expires = self.host.clock.monotonic() + ttl / 1000
                if self.ready.count:
                    self.drop_expired(EXPIRED_PER_PUBLISH)
        self.published += 1
        consumer = None if self.ready.count else self._ring.choose()
        entry = 0
        memory = self.host.memory
        if entries is not None and self.entry and not (consumer is not None and consumer.no_ack):
            entry = _enter(memory.journal, self.entry, expires, entries)
        message = (route, properties, body, expires, entry)
        if consumer is not None:
            self._next_number += self._step
            self.dispatch(consumer, self._next_number, message, redelivered=False, known=False)
            return True
        memory.used += MESSAGE_COST + len(properties) + len(body)
        memory.messages += 1
        self.ready.add(message, priority)
        if self._limited and self.options.overflow == DROP_HEAD:
            self._drop_overflow()
        if expires is not None:
            self._timed = True
            self.drop_expired(EXPIRED_PER_PUBLISH)
        return True

    def _would_overflow(self, size: int) -> bool:
        if self.options.overflow == DROP_HEAD:
            return False
        return self._over(self.ready.count + 1, self.ready.bytes + size)

    def _over(self, count: int, size: int) -> bool:
        limit, most_bytes = self.options.max_length, self.options.max_bytes
        return (limit is not None and count > limit) or (most_bytes is not None and size > most_bytes)

    def _drop_overflow(self, limit: int = DROPPED_PER_STEP) -> int:
        """Drop up to `limit` messages beyond the queue's length; return their number."""
        dropped = 0
        while self.ready.count and self._over(self.ready.count, self.ready.bytes):
            if dropped >= limit:
                self._remind(self.host.clock.monotonic())
                break
            dropped += 1
            self.dead_letter(self.ready.take()[1], MAXLEN)
        return dropped

    # --- messages out ---

    def pump(self, limit: int) -> int:
        """Deliver or expire up to `limit` messages and return their number."""
        handled = 0
        ready = self.ready
        while ready.count and handled < limit:
            if self._timed:
                handled += self.drop_expired(limit - handled)
                if not ready.count or handled >= limit:
                    break
            consumer = self._ring.choose()
            if consumer is None:
                return handled
            number, message = ready.take()
            known = number is not None
            if number is None:
                self._next_number = number = self._next_number + self._step
            self.dispatch(consumer, number, message, redelivered=known, known=True)
            handled += 1
        if ready.count:
            self.host.pump_later(self)
        return handled

    def dispatch(
        self, consumer: QueueConsumer, number: int, message: Message, *, redelivered: bool, known: bool
    ) -> None:
        """Deliver a message to `consumer`; `known` means that it is counted in memory already."""
        memory = self.host.memory
        memory.delivered += 1
        self.delivered += 1
        if consumer.no_ack:
            self.delivered_no_ack += 1
            if known:
                self._forget(message)
        else:
            if not known:
                memory.used += cost_of(message)
                memory.messages += 1
            self.unacked += 1
            if message[4]:
                self._took(number, message[4])
            if consumer.credit > 0:
                consumer.credit -= 1
        if not redelivered:
            consumer.sink.deliver(consumer, number, message, redelivered)
            return
        self.redelivered += 1
        if self._counts_returns:
            shown = with_delivery_count(message, number)
            consumer.sink.deliver(consumer, number, shown, redelivered, original=message)
        else:
            consumer.sink.deliver(consumer, number, message, redelivered)

    def get(self, *, no_ack: bool) -> tuple[int, Message, bool] | None:
        """Take the first message for basic.get: its number, the message, whether it is redelivered.

        `as_delivered` gives what to send of it. Raises ExpiringError.
        """
        self.touch()
        if self._timed and self.drop_expired() >= EXPIRED_PER_STEP and self._head_has_expired():
            raise ExpiringError
        if not self.ready.count:
            self.got_nothing += 1
            return None
        number, message = self.ready.take()
        redelivered = number is not None
        self.redelivered += redelivered
        if number is None:
            self._next_number = number = self._next_number + self._step
        self.host.memory.delivered += 1
        self.delivered += 1
        self.got += 1
        if no_ack:
            self.got_no_ack += 1
            self._forget(message)
        else:
            self.unacked += 1
            if message[4]:
                self._took(number, message[4])
        if self._timed:
            self.drop_expired()
        return number, message, redelivered

    def _took(self, number: int, entry: int) -> None:
        """Note a stored message that is unacknowledged from now on."""
        self.taken.add(entry)
        journal = self.host.memory.journal
        if self._counts_returns and journal is not None:
            journal.count(entry, returns_of(number) + 1)

    def as_delivered(self, number: int, message: Message) -> Message:
        """A message taken by `get`, with the headers that the queue adds."""
        return with_delivery_count(message, number) if self._counts_returns else message

    # --- acknowledgements ---

    def ack(self, message: Message) -> None:
        """Forget an acknowledged message."""
        self.unacked -= 1
        self.acked += 1
        memory = self.host.memory
        memory.acked += 1
        memory.used -= MESSAGE_COST + len(message[1]) + len(message[2])
        memory.messages -= 1
        if message[4]:
            self.taken.discard(message[4])
            self._unstore(message)

    def reject(self, message: Message) -> None:
        """Drop a rejected message, or send it to the dead-letter exchange if there is one."""
        self.unacked -= 1
        self.taken.discard(message[4])
        if self.deleted:
            self._forget(message)
        else:
            self.dead_letter(message, REJECTED)

    def requeue(self, taken: Iterable[Taken]) -> None:
        """Return messages to their old positions (a quorum queue: in order) and deliver them again soon."""
        has_priorities = self.options.max_priority > 0
        for number, message in taken:
            self.unacked -= 1
            self.taken.discard(message[4])
            if self.deleted:
                self._forget(message)
                continue
            if self._counts_returns:
                returns, limit = returns_of(number) + 1, self.options.delivery_limit
                if limit is not None and returns > limit:
                    self.dead_letter(message, DELIVERY_LIMIT)
                    continue
                self._next_number += self._step
                number = returned_number(self._next_number, returns)
            if message[3] is not None:
                self._timed = True
            self.ready.give_back(number, message, priority_of(message[1]) if has_priorities else 0)
        if self._limited and self.options.overflow == DROP_HEAD:
            self._drop_overflow()
        if self._timed:
            self.drop_expired()
        if self.ready.count:
            self.host.pump_later(self)

    def purge(self) -> int:
        """Drop the ready messages and return their number; unacknowledged ones stay."""
        count = self.ready.count
        memory = self.host.memory
        if count and self.entry and not self.deleted and memory.journal is not None:
            memory.journal.purge(self.entry, self.taken)
        memory.discard(self.ready.detach())
        return count

    @property
    def stores_transient(self) -> bool:
        """Whether messages that are not persistent are stored too."""
        return self._counts_returns

    def recover(
        self, messages: Sequence[Message], delivered: Container[int] | None, counts: Mapping[int, int]
    ) -> None:
        """Add the messages that the log has, in their order.

        `delivered` has the entry numbers of those that have been delivered before, None meaning all;
        `counts` are the deliveries of a quorum queue's messages.
        """
        ready = self.ready
        if self._counts_returns:
            for message in messages:
                returns = counts.get(message[4])
                if returns is None:
                    ready.add(message, 0)
                else:
                    self._next_number += self._step
                    ready.give_back(returned_number(self._next_number, returns), message, 0)
        elif self.options.max_priority > 0:
            self._next_number = ready.recover(messages, delivered, lambda each: priority_of(each[1]))
        else:
            self._next_number = ready.recover(messages, delivered)
        memory = self.host.memory
        for message, _ in ready.waiting():
            memory.used += MESSAGE_COST + len(message[1]) + len(message[2])
            if message[3] is not None:
                self._timed = True
        memory.messages += ready.count
        if self._timed:
            self._remind(self.host.clock.monotonic())

    def dead_letter(self, message: Message, reason: str) -> None:
        """Drop a message; the host sends it to the dead-letter exchange, if there is one."""
        self._forget(message)
        self.host.dead_letter(self, message, reason)

    def _forget(self, message: Message) -> None:
        memory = self.host.memory
        memory.used -= cost_of(message)
        memory.messages -= 1
        if message[4]:
            self._unstore(message)

    def _unstore(self, message: Message) -> None:
        journal = self.host.memory.journal
        if journal is not None:
            if self.deleted:
                journal.forget(message)
            else:
                journal.remove(message)

    # --- consumers ---

    def add_consumer(self, consumer: QueueConsumer) -> None:
        self.consumers.add(consumer)
        if self.ready.count:
            self.host.pump_later(self)

    def remove_consumer(self, consumer: QueueConsumer) -> None:
        """Remove a consumer; the last consumer of an auto-delete queue deletes the queue."""
        if consumer not in self.consumers:
            return
        if self.consumers.remove(consumer) and self.ready.count:
            self.host.pump_later(self)
        if not self.consumers:
            self.touch()
            if self.auto_delete:
                self.host.delete_queue(self)

    def released(self, consumer: QueueConsumer) -> None:
        """A removed consumer holds no message any more."""
        if self.consumers.released(consumer) and self.ready.count:
            self.host.pump_later(self)

    def wake(self, consumer: QueueConsumer) -> None:
        self._ring.add(consumer)
        if self.ready.count:
            self.host.pump_later(self)

    def refuses_consumer(self, *, exclusive: bool) -> bool:
        """Whether the queue is in exclusive use, or cannot be. Quorum queues ignore exclusive consumers."""
        return not self._counts_returns and self.consumers.refuses(exclusive=exclusive)

    @property
    def hands_over_in_order(self) -> bool:
        """Whether the next single active consumer waits for the messages that the last one holds."""
        return self.options.single_active_consumer and not self._counts_returns

    def close(self) -> int:
        """Delete the messages, cancel the consumers, and return the number of ready messages."""
        self.deleted = True
        count = self.purge()
        for consumer in self.consumers.clear():
            consumer.sink.cancelled(consumer)
        return count

    # --- time ---

    def touch(self) -> None:
        """Record a use of the queue, which restarts its x-expires."""
        if self.options.expires is not None:
            self.last_used = self.host.clock.monotonic()
            self._remind_unused()

    def tick(self, now: float, limit: int = EXPIRED_PER_STEP) -> int:
        """Expire up to `limit` messages, or the queue itself; return the number of messages."""
        self._reminded = None
        dropped = self.drop_expired(limit)
        if self._limited and self.options.overflow == DROP_HEAD:
            dropped += self._drop_overflow(limit)
        expires = self.options.expires
        if expires is not None and not self.consumers and now >= self.last_used + expires / 1000:
            self.host.delete_queue(self)
            return dropped
        self._remind_unused()
        return dropped

    def _head_has_expired(self) -> bool:
        head = self.ready.head()
        return head is not None and head[3] is not None and head[3] <= self.host.clock.monotonic()

    def drop_expired(self, limit: int = EXPIRED_PER_STEP) -> int:
        """Drop up to `limit` expired messages at the head and set the reminder for the next one.

        Returns the number of dropped messages.
        """
        head = self.ready.head()
        if head is None or head[3] is None:
            return 0
        now = self.host.clock.monotonic()
        dropped = 0
        while head is not None and head[3] is not None:
            if head[3] > now or dropped >= limit:
                self._remind(max(head[3], now))
                break
            dropped += 1
            self.ready.take()
            self.dead_letter(head, EXPIRED)
            head = self.ready.head()
        return dropped

    def _remind_unused(self) -> None:
        if self.options.expires is not None and not self.consumers:
            self._remind(self.last_used + self.options.expires / 1000)

    def _remind(self, when: float) -> None:
        if self._reminded is None or when < self._reminded:
            self._reminded = when
            self.host.remind(self, when)


def _enter(journal: Journal | None, queue: int, expires: float | None, entries: Entries) -> int:
    return 0 if journal is None else journal.enter(queue, expires, entries)


def _least(first: int | None, second: int | None) -> int | None:
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)

"""The delivering side of one channel: consumers, unacknowledged messages, prefetch limits. No sockets.

Theory of the fast path. A delivery is five pieces: head, delivery tag, tail, body, frame end. Head and
tail depend on the consumer's tag and on the message's route, properties and body size, and successive
messages mostly share all four, so each consumer caches the two (`QueueConsumer.fits`). The cache is
right because route and properties are compared by identity: bytes are immutable, and the consumer
holds the objects that it compares with, so no other object can take their place in memory. A message
that is equal but not identical only costs one more `_prepare`. The frames of a cached head and tail
have one body frame: empty bodies, and bodies larger than a frame, take `_send_whole`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pamqp import commands

from msctl.broker.core.consumers import UNLIMITED, MessageSource, QueueConsumer
from msctl.broker.core.messages import Message, Taken
from msctl.broker.core.queues import Queue
from msctl.broker.protocol.replies import AmqpError, precondition_failed
from msctl.broker.protocol.wire import (
    BASIC_CLASS,
    BODY,
    CONTENT,
    DELIVERY,
    FRAME,
    FRAME_END_BYTE,
    FRAME_OVERHEAD,
    HEADER,
    METHOD,
    METHOD_ID,
    content_frames,
    encode_method,
    shortstr,
    split_route,
)
from msctl.broker.session.buffers import Outbox

Unacked = tuple[MessageSource, QueueConsumer | None, int, Message]
"""An unacknowledged message: its queue, its consumer (None: basic.get), its number, the message."""

_DELIVER = METHOD_ID.pack(commands.Basic.Deliver.index)
_DELIVER_FIXED = len(_DELIVER) + DELIVERY.size


@dataclass(frozen=True, slots=True, eq=False)
class HeldDelivery:
    """A delivery that a fault holds back: counted as unacknowledged, but without a delivery tag."""

    consumer: QueueConsumer
    number: int
    message: Message
    redelivered: bool
    original: Message | None


class Deliveries:
    """The consumers and unacknowledged messages of a channel. Implements Sink for its consumers.

    `prefetch` is the limit of each new consumer; `set_limit` sets the one that they share.
    """

    def __init__(self, number: int, outbox: Outbox, *, notify_cancel: bool) -> None:
        self.consumers: dict[str, QueueConsumer] = {}
        self.unacked: dict[int, Unacked] = {}
        self.prefetch = 0
        self._number = number
        self._outbox = outbox
        self._notify_cancel = notify_cancel
        self._limit = 0
        self._outstanding = 0
        self._last_tag = 0
        self._oldest = 1
        self._parked: set[QueueConsumer] = set()
        self._held: dict[HeldDelivery, None] = {}

    @property
    def outbox(self) -> Outbox:
        """Where the frames go."""
        return self._outbox

    # --- sink ---

    def accepts(self, consumer: QueueConsumer) -> bool:
        outbox = self._outbox
        if outbox.congested:
            outbox.parked.add(consumer)
            return False
        if self._limit and self._outstanding >= self._limit:
            self._parked.add(consumer)
            return False
        return True

    def deliver(
        self,
        consumer: QueueConsumer,
        number: int,
        message: Message,
        redelivered: bool,
        *,
        original: Message | None = None,
    ) -> None:
        tag = self._last_tag = self._last_tag + 1
        if not consumer.no_ack:
            held = message if original is None else original
            self.unacked[tag] = (consumer.queue, consumer, number, held)
            self._outstanding += 1
        outbox = self._outbox
        body = message[2]
        size = len(body)
        if not size or 0 < outbox.frame_max - FRAME_OVERHEAD < size:
            self._send_whole(consumer.tag, tag, message, redelivered=redelivered)
            return
        if not consumer.fits(message):
            self._prepare(consumer, message)
        head, tail = consumer.head, consumer.tail
        outbox.send_parts(
            (head, DELIVERY.pack(tag, redelivered), tail, body, FRAME_END_BYTE),
            len(head) + len(tail) + size + 10,
        )

    def _send_whole(self, consumer_tag: str, tag: int, message: Message, *, redelivered: bool) -> None:
        number = self._number
        exchange, key = split_route(message[0])
        method = encode_method(number, commands.Basic.Deliver, consumer_tag, tag, redelivered, exchange, key)
        content = content_frames(number, message[1], message[2], self._outbox.frame_max)
        self._outbox.send(method + content)

    def send_reply(self, consumer_tag: str, message: Message) -> None:
        """Send a direct reply. It carries the next delivery tag without using it up."""
        self._send_whole(consumer_tag, self._last_tag + 1, message, redelivered=False)

    def _prepare(self, consumer: QueueConsumer, message: Message) -> None:
        """Cache the frame bytes around delivery tag and body for the consumer's next messages."""
        route, properties, body, _, _ = message
        number = self._number
        tag = shortstr(consumer.tag)
        consumer.head = b"".join(
            (FRAME.pack(METHOD, number, _DELIVER_FIXED + len(tag) + len(route)), _DELIVER, tag)
        )
        consumer.tail = b"".join(
            (
                route,
                FRAME_END_BYTE,
                FRAME.pack(HEADER, number, CONTENT.size + len(properties)),
                CONTENT.pack(BASIC_CLASS, 0, len(body)),
                properties,
                FRAME_END_BYTE,
                FRAME.pack(BODY, number, len(body)),
            )
        )

    def cancelled(self, consumer: QueueConsumer) -> None:
        self.consumers.pop(consumer.tag, None)
        self._unpark(consumer)
        self._return_held(consumer)
        self._notify(consumer)

    def _notify(self, consumer: QueueConsumer) -> None:
        if self._notify_cancel:
            self._outbox.send_late(encode_method(self._number, commands.Basic.Cancel, consumer.tag, True))

    # --- consumers ---

    def add(self, consumer: QueueConsumer) -> None:
        self.consumers[consumer.tag] = consumer
        consumer.queue.add_consumer(consumer)

    def remove(self, tag: str) -> None:
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            self._unpark(consumer)
            if consumer.queue.hands_over_in_order:
                consumer.held = sum(record[1] is consumer for record in self.unacked.values())
            consumer.queue.remove_consumer(consumer)
            self._return_held(consumer)

    def cancel(self, consumer: QueueConsumer) -> None:
        """Cancel a consumer from the broker's side."""
        self.remove(consumer.tag)
        self._notify(consumer)

    # --- held deliveries ---

    def hold(self, held: HeldDelivery) -> None:
        """Keep a delivery for `release`; until then its consumer may end."""
        self._held[held] = None
        self._outstanding += not held.consumer.no_ack

    def release(self, held: HeldDelivery) -> None:
        """Deliver what is still held."""
        if held in self._held:
            del self._held[held]
            self._outstanding -= not held.consumer.no_ack
            self.deliver_held(held)

    def deliver_held(self, held: HeldDelivery) -> None:
        self.deliver(held.consumer, held.number, held.message, held.redelivered, original=held.original)

    def _return_held(self, consumer: QueueConsumer) -> None:
        """Requeue what is held for a consumer that has ended."""
        for held in [each for each in self._held if each.consumer is consumer]:
            del self._held[held]
            if not consumer.no_ack:
                self._outstanding -= 1
                consumer.queue.requeue([(held.number, held.original or held.message)])

    def _unpark(self, consumer: QueueConsumer) -> None:
        self._parked.discard(consumer)
        self._outbox.parked.discard(consumer)

    @property
    def limit(self) -> int:
        """The limit of unacknowledged messages that the consumers share; 0 is none."""
        return self._limit

    @property
    def delivered(self) -> int:
        """How many messages left on this channel."""
        return self._last_tag

    @property
    def shares_limit(self) -> bool:
        """Whether the consumers share a limit of unacknowledged messages."""
        return self._limit > 0

    def set_limit(self, count: int) -> None:
        """Limit the unacknowledged messages of all consumers together; 0 is no limit."""
        self._limit = count
        self._wake()

    def _wake(self) -> None:
        if self._parked and not (self._limit and self._outstanding >= self._limit):
            parked, self._parked = self._parked, set()
            for consumer in parked:
                consumer.wake()

    # --- basic.get and acknowledgements ---

    def got(self, queue: Queue, number: int, message: Message, *, no_ack: bool) -> int:
        """Record a message taken by basic.get and return its delivery tag."""
        tag = self._last_tag = self._last_tag + 1
        if not no_ack:
            self.unacked[tag] = (queue, None, number, message)
        return tag

    def take(self, tag: int, *, multiple: bool) -> list[tuple[int, Unacked]]:
        """Remove and return the messages that an acknowledgement names. Raises AmqpError 406."""
        if not multiple:
            record = self.unacked.pop(tag, None)
            if record is None:
                raise _unknown_tag(tag)
            return [(tag, record)]
        if tag == 0:
            taken = list(self.unacked.items())
            self.unacked.clear()
            self._oldest = self._last_tag + 1
            return taken
        if tag not in self.unacked:
            raise _unknown_tag(tag)
        pop = self.unacked.pop
        taken = [
            (each, record) for each in range(self._oldest, tag + 1) if (record := pop(each, None)) is not None
        ]
        self._oldest = tag + 1
        return taken

    def put_back(self, records: Iterable[tuple[int, Unacked]]) -> None:
        """Undo `take` (a rollback)."""
        self.unacked.update(records)
        self.unacked = dict(sorted(self.unacked.items()))
        self._oldest = next(iter(self.unacked), self._last_tag + 1)

    def acknowledge(self, records: Iterable[tuple[int, Unacked]]) -> None:
        for _, (queue, consumer, _, message) in records:
            queue.ack(message)
            if consumer is not None:
                self._release(consumer)
        if self._parked:
            self._wake()

    def reject(self, records: list[tuple[int, Unacked]], *, requeue: bool) -> None:
        if requeue:
            self.requeue(records)
        else:
            for _, (queue, _, _, message) in records:
                queue.reject(message)
        for _, (_, consumer, _, _) in records:
            if consumer is not None:
                self._release(consumer)
        self._wake()

    def requeue(self, records: Iterable[tuple[int, Unacked]]) -> None:
        by_queue: dict[MessageSource, list[Taken]] = {}
        for _, (queue, _, number, message) in records:
            by_queue.setdefault(queue, []).append((number, message))
        for queue, taken in by_queue.items():
            queue.requeue(taken)

    def _release(self, consumer: QueueConsumer) -> None:
        self._outstanding -= 1
        if consumer.held:
            consumer.held -= 1
            if not consumer.held:
                consumer.queue.released(consumer)
        if consumer.credit != UNLIMITED:
            consumer.credit += 1
            if consumer.waiting:
                consumer.wake()

    def recover(self) -> None:
        """Requeue all unacknowledged messages."""
        records = self.take(0, multiple=True)
        self.reject(records, requeue=True)

    def close(self) -> None:
        """Remove the consumers, then requeue: no requeued message may come back to this channel."""
        for tag in list(self.consumers):
            self.remove(tag)
        records = self.take(0, multiple=True)
        self.requeue(records)
        for _, (_, consumer, _, _) in records:
            if consumer is not None and consumer.held:
                self._release(consumer)
        self._outstanding = 0


class ReplyConsumer:
    """A channel's only consumer of direct replies; `secret` is the last part of its address."""

    def __init__(self, tag: str, secret: str, deliveries: Deliveries) -> None:
        self.tag = tag
        self.secret = secret
        self._deliveries = deliveries

    def deliver(self, message: Message) -> None:
        self._deliveries.send_reply(self.tag, message)


def _unknown_tag(tag: int) -> AmqpError:
    return precondition_failed(f"unknown delivery tag {tag}")

"""The receiving side of one channel: consumers, what is out unacknowledged, prefetch limits. No sockets."""

from __future__ import annotations

from collections.abc import Iterable

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
"""A message that is out: its queue, who has it (None: basic.get), its place, itself."""

_DELIVER = METHOD_ID.pack(commands.Basic.Deliver.index)
_DELIVER_FIXED = len(_DELIVER) + DELIVERY.size


class Deliveries:
    """Consumers and outstanding messages of a channel. It is the sink of its consumers.

    `prefetch` is what new consumers are given; `limit` is the channel's own limit over all of them,
    0 for none.
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

    def deliver(self, consumer: QueueConsumer, number: int, message: Message, redelivered: bool) -> None:
        tag = self._last_tag = self._last_tag + 1
        if not consumer.no_ack:
            self.unacked[tag] = (consumer.queue, consumer, number, message)
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
        """A direct reply: it has the next delivery tag, but does not use it up."""
        self._send_whole(consumer_tag, self._last_tag + 1, message, redelivered=False)

    def _prepare(self, consumer: QueueConsumer, message: Message) -> None:
        """Write the frames around tag and body once: they mostly fit the consumer's next message too."""
        route, properties, body, _ = message
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
            consumer.queue.remove_consumer(consumer)

    def _unpark(self, consumer: QueueConsumer) -> None:
        self._parked.discard(consumer)
        self._outbox.parked.discard(consumer)

    def limit(self, count: int) -> None:
        """Set the channel's own limit, 0 for none."""
        self._limit = count
        self._wake()

    def _wake(self) -> None:
        if self._parked and not (self._limit and self._outstanding >= self._limit):
            parked, self._parked = self._parked, set()
            for consumer in parked:
                consumer.wake()

    # --- getting and settling ---

    def got(self, queue: Queue, number: int, message: Message, *, no_ack: bool) -> int:
        """Note a message that basic.get has taken; returns its delivery tag."""
        tag = self._last_tag = self._last_tag + 1
        if not no_ack:
            self.unacked[tag] = (queue, None, number, message)
        return tag

    def take(self, tag: int, *, multiple: bool) -> list[tuple[int, Unacked]]:
        """Take out what an acknowledgement names. Raises AmqpError 406 for an unknown tag."""
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
        """Undo `take`, as a rollback does."""
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
        if consumer.credit != UNLIMITED:
            consumer.credit += 1
            if consumer.waiting:
                consumer.wake()

    def recover(self) -> None:
        """Give all that is out back to the queues."""
        records = self.take(0, multiple=True)
        self.reject(records, requeue=True)

    def close(self) -> None:
        """The channel ends: consumers go first, so that nothing comes back to them, then messages."""
        for tag in list(self.consumers):
            self.remove(tag)
        records = self.take(0, multiple=True)
        self._outstanding = 0
        self.requeue(records)


class ReplyConsumer:
    """A channel's consumer of direct replies, of which there is at most one; `secret` is its address."""

    def __init__(self, tag: str, secret: str, deliveries: Deliveries) -> None:
        self.tag = tag
        self.secret = secret
        self._deliveries = deliveries

    def deliver(self, message: Message) -> None:
        self._deliveries.send_reply(self.tag, message)


def _unknown_tag(tag: int) -> AmqpError:
    return precondition_failed(f"unknown delivery tag {tag}")

"""Consume a queue in order, and never more messages than asked for.

Messages are acknowledged manually, in batches, after they were processed; unprocessed ones return to
the queue. A limit of N is exact at any moment: an acknowledgement lets the broker send more, so the
last `prefetch` messages before the limit are acknowledged only after the consumer was cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from enum import StrEnum

from aiormq.channel import Channel
from pamqp.commands import Basic

from msctl.amqp.connection import Connection, end_of
from msctl.amqp.delivery import Deliveries, Delivery
from msctl.amqp.errors import BrokerRefusedError
from msctl.amqp.methods import BasicConsume
from msctl.amqp.queues import passive_declare
from msctl.errors import BrokerError, MsctlError

MAX_PREFETCH = 65535
"""The largest value of AMQP's prefetch field."""
PREFETCH = 1000
_END_TIMEOUT = 2.0
"""Seconds for each step of an orderly close; closing the connection has the same effect."""


class AckMode(StrEnum):
    """What happens to a message after it was processed."""

    ACK = "ack"
    REJECT = "reject"
    REQUEUE = "requeue"


class Consumer:
    """Takes up to `limit` messages (None: no limit) from one queue over its own channel."""

    def __init__(
        self,
        connection: Connection,
        channel: Channel,
        queue: str,
        *,
        prefetch: int,
        limit: int | None,
        mode: AckMode,
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._queue = queue
        self._limit = limit
        self._prefetch = prefetch
        self._mode = mode
        self._tag: str | None = None
        self._deliveries = Deliveries()
        self._arrived = self._deliveries.arrived
        self._wake = asyncio.Event()
        self._deliveries.wake = self._wake.set
        connection.frames.attach(channel.number, self._deliveries)
        self._ended: MsctlError | None = None
        self._processed = 0
        self._acked = 0
        self._watch = asyncio.create_task(self._watch_channel())

    @classmethod
    async def open(
        cls,
        connection: Connection,
        queue: str,
        *,
        prefetch: int = PREFETCH,
        limit: int | None = None,
        mode: AckMode = AckMode.ACK,
    ) -> Consumer:
        """Start consuming. Raises BrokerRefusedError (404: no such queue), BrokerAwayError."""
        prefetch = min(prefetch, MAX_PREFETCH if limit is None else limit)
        channel = await connection.channel()
        consumer = cls(connection, channel, queue, prefetch=prefetch, limit=limit, mode=mode)
        try:
            channel.on_consumer_cancel_callbacks.add(consumer._on_cancel)
            await connection.ask(channel.basic_qos(prefetch_count=prefetch))
            # Not channel.basic_consume, which accepts fewer names than RabbitMQ.
            tag = f"msctl.{uuid.uuid4().hex}"
            started = await connection.ask(channel.rpc(BasicConsume(queue=queue, consumer_tag=tag)))
        except BaseException:
            consumer._stop_watching()
            raise
        consumer._tag = started.consumer_tag
        return consumer

    @property
    def unacked(self) -> int:
        """Messages that were processed and are not acknowledged yet."""
        return self._processed - self._acked

    @property
    def at_hand(self) -> int:
        """Messages that `take` returns without waiting."""
        return len(self._arrived)

    @property
    def is_full(self) -> bool:
        """Whether the broker sends no more messages until some are acknowledged."""
        return self.unacked >= self._prefetch

    async def take(self) -> list[Delivery]:
        """Wait for messages and return all that have arrived. Raises the error that ended the consumer."""
        while not self._arrived:
            if self._ended is not None:
                raise self._ended
            self._wake.clear()
            await self._wake.wait()
        taken = list(self._arrived)
        self._arrived.clear()
        return taken

    async def mark_done(self, count: int) -> None:
        """Record that the next `count` messages were processed, and acknowledge as the limit allows.

        Raises the error that ended the consumer.
        """
        self._processed += count
        if self._mode is AckMode.REQUEUE:
            return
        done = self._processed
        ceiling = done if self._limit is None else min(done, self._limit - self._prefetch)
        await self._ack_up_to(ceiling)

    async def is_empty(self) -> bool:
        """Whether no message is ready in the queue, in flight or at hand."""
        for _ in range(2):
            # Twice: a message that was in flight when the broker counted can arrive after the answer.
            answer = await passive_declare(self._connection, self._channel, self._queue)
            await asyncio.sleep(0)
            if self._arrived or answer.message_count:
                return False
        return True

    async def count_ready(self) -> int:
        """Return how many messages wait in the queue for a consumer. Raises BrokerError."""
        answer = await passive_declare(self._connection, self._channel, self._queue)
        return answer.message_count or 0

    async def finish(self) -> None:
        """Cancel the consumer, acknowledge processed messages and requeue the rest.

        Does not raise if the connection is lost.
        """
        try:
            with contextlib.suppress(MsctlError):
                if self._ended is None and self._tag is not None:
                    await self._connection.ask(self._channel.basic_cancel(self._tag), _END_TIMEOUT)
                await self._ack_up_to(self._processed)
        finally:
            self._stop_watching()
            await asyncio.wait([self._watch])
        if self._connection.is_open and not self._channel.is_closed:
            with contextlib.suppress(MsctlError):
                await self._connection.ask(self._channel.close(), _END_TIMEOUT)

    async def _ack_up_to(self, tag: int) -> None:
        """Acknowledge all messages up to `tag`: on this channel the delivery tag counts the messages."""
        if tag <= self._acked:
            return
        match self._mode:
            case AckMode.ACK:
                await self._connection.ask(self._channel.basic_ack(tag, multiple=True))
            case AckMode.REJECT:
                await self._connection.ask(self._channel.basic_nack(tag, multiple=True, requeue=False))
            case AckMode.REQUEUE:
                await self._connection.ask(self._channel.basic_nack(tag, multiple=True, requeue=True))
        self._acked = tag

    def _stop_watching(self) -> None:
        self._watch.cancel()
        self._connection.frames.detach(self._channel.number)

    def _on_cancel(self, _frame: Basic.Cancel) -> None:
        self._end(
            BrokerRefusedError(
                f"the broker cancelled the consumer: queue '{self._queue}' was deleted or has moved",
                code=0,
                text="consumer cancelled",
            )
        )

    async def _watch_channel(self) -> None:
        self._end(await self._connection.reason(await end_of(self._channel)))

    def _end(self, error: BrokerError) -> None:
        # Messages that were not taken cannot be acknowledged any more and will be delivered again.
        if self._channel.is_closed:
            self._arrived.clear()
        if self._ended is None:
            self._ended = error
        self._wake.set()

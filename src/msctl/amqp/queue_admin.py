"""The dashboard's queue operations: publish one message, browse the waiting ones.

The embedded broker is browsed directly, which changes nothing. On any other broker, messages are taken
with basic.get and requeued at once, as RabbitMQ's management page does: they are unavailable for that
moment and marked as redelivered afterwards.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from itertools import islice

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic

from msctl.amqp.connection import Connection, closing
from msctl.amqp.publisher import Publisher
from msctl.amqp.queues import count
from msctl.amqp.url import parse_url
from msctl.model.queue_messages import (
    PEEK_BODY,
    PEEK_HEADER,
    PEEK_HEADERS,
    PEEK_MESSAGES,
    PeekedMessage,
    QueueLook,
)

CONNECT_TIMEOUT = 5.0
BROWSE_EVERY = 0.5
MAX_TAKEN_BYTES = 32 * 1024 * 1024
"""Bytes of messages after which browsing takes no further message."""


class QueueAdmin:
    """Implements model.QueueView over AMQP. `url` is called for each operation, as it may change."""

    def __init__(
        self, url: Callable[[], str], browse: Callable[[str], QueueLook | None] = lambda _queue: None
    ) -> None:
        """`browse` reads a queue of the embedded broker; it returns None for an external one."""
        self._url = url
        self._browse = browse

    async def publish(self, queue: str, body: bytes, content_type: str) -> None:
        """Publish and wait for the confirm. Raises BrokerError, also if the queue does not exist."""
        async with closing(await self._open()) as connection:
            await count(connection, queue)
            publisher = await Publisher.open(connection)
            try:
                properties = Basic.Properties(content_type=content_type)
                template = publisher.template(properties, exchange="", routing_key=queue)
                await publisher.publish(template, body)
            finally:
                await publisher.close()

    async def look(self, queue: str) -> Sequence[PeekedMessage]:
        """The messages at the head of the queue, as they are now. Raises BrokerError for an unknown one."""
        async with self._browsing(queue) as browse:
            return [message for _, message in await browse()]

    async def peek(self, queue: str) -> AsyncIterator[PeekedMessage]:
        """Yield the messages of the queue, present and future, each once.

        A message that stays in the queue for less than BROWSE_EVERY seconds can be missed.
        """
        seen: Counter[bytes] = Counter()
        async with self._browsing(queue) as browse:
            while True:
                now: Counter[bytes] = Counter()
                for mark, message in await browse():
                    now[mark] += 1
                    if now[mark] > seen[mark]:
                        yield message
                seen = now
                await asyncio.sleep(BROWSE_EVERY)

    @asynccontextmanager
    async def _browsing(self, queue: str) -> AsyncIterator[Callable[[], Awaitable[QueueLook]]]:
        if self._browse(queue) is None:
            async with closing(await self._open()) as connection:
                yield _RemoteQueue(connection, queue).browse
            return

        async def browse() -> QueueLook:
            return self._browse(queue) or ()

        yield browse

    async def _open(self) -> Connection:
        return await Connection.open(parse_url(self._url()), name="msctl desk", timeout=CONNECT_TIMEOUT)


class _RemoteQueue:
    """A queue that is browsed over a connection."""

    def __init__(self, connection: Connection, queue: str) -> None:
        self._connection = connection
        self._queue = queue
        self._count = 0
        self._found: QueueLook = ()

    async def browse(self) -> QueueLook:
        """The waiting messages; the previous result if their number has not changed."""
        before, self._count = self._count, (await count(self._connection, self._queue)).ready
        if self._count != before:
            # With the same number most likely nothing has changed, and taking would mark as redelivered.
            messages = await _take_and_put_back(self._connection, self._queue) if self._count else []
            self._found = [(_mark(message), _shown(message)) for message in messages]
        return self._found


async def _take_and_put_back(connection: Connection, queue: str) -> list[DeliveredMessage]:
    """Return the messages at the head of the queue; all are requeued afterwards."""
    channel = await connection.channel()
    found: list[DeliveredMessage] = []
    room = MAX_TAKEN_BYTES
    try:
        while len(found) < PEEK_MESSAGES and room > 0 and (message := await _get(connection, channel, queue)):
            found.append(message)
            room -= len(message.body)
        if found:
            await connection.ask(channel.basic_nack(len(found), multiple=True, requeue=True))
    finally:
        # Closing the channel requeues the rest after an error.
        await connection.ask(channel.close())
    return found


async def _get(connection: Connection, channel: Channel, queue: str) -> DeliveredMessage | None:
    answer = await connection.ask(channel.basic_get(queue))
    return None if isinstance(answer.delivery, Basic.GetEmpty) else answer


def _mark(message: DeliveredMessage) -> bytes:
    """A digest that identifies a message, as far as AMQP allows it."""
    properties = message.header.properties
    identity = (message.exchange, message.routing_key, properties.message_id, properties.timestamp)
    return sha256(repr(identity).encode() + message.body).digest()


def _shown(message: DeliveredMessage) -> PeekedMessage:
    properties = message.header.properties
    headers = islice((properties.headers or {}).items(), PEEK_HEADERS)
    return PeekedMessage(
        body=message.body[:PEEK_BODY].decode(errors="backslashreplace"),
        size=len(message.body),
        exchange=message.exchange or "",
        routing_key=message.routing_key or "",
        content_type=properties.content_type or "",
        headers={str(name): str(value)[:PEEK_HEADER] for name, value in headers},
        redelivered=bool(message.redelivered),
    )

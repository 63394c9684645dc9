"""What the page does with a broker: show what it has, change it, publish, browse the waiting messages.

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
from typing import Any

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from msctl.amqp.broker_changes import apply
from msctl.amqp.connection import Connection, closing
from msctl.amqp.management_client import ManagementClient
from msctl.amqp.management_documents import Documents, read_documents
from msctl.amqp.publisher import Publisher
from msctl.amqp.queues import count, get
from msctl.amqp.url import BrokerUrl, parse_url
from msctl.errors import UsageError
from msctl.model.messaging import BrokerChange, ChangeResult, Messaging, OutgoingMessage
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
_SETTABLE = frozenset(
    {
        "app_id",
        "content_encoding",
        "correlation_id",
        "delivery_mode",
        "expiration",
        "message_id",
        "message_type",
        "priority",
        "reply_to",
        "user_id",
    }
)
"""The properties that a message of the page may have beside its content type and headers."""
MAX_TAKEN_BYTES = 32 * 1024 * 1024
"""Bytes of messages after which browsing takes no further message."""


class QueueAdmin:
    """Implements model.MessagingView over AMQP. `url` is called for each operation, as it may change."""

    def __init__(
        self,
        url: Callable[[], str],
        browse: Callable[[str], QueueLook | None] = lambda _queue: None,
        documents: Callable[[str], Awaitable[Documents | None]] | None = None,
        management: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`browse` reads a queue of the embedded broker, `documents` all of it; both return None for another.

        Its management API is asked then: the one at `management`, or where RabbitMQ has it.
        """
        self._url = url
        self._browse = browse
        self._documents = documents
        self._management = management

    async def messaging(self, find: str = "") -> Messaging:
        """What the broker has. Raises BrokerError where no management API answers."""
        url = parse_url(self._url())
        documents = None if self._documents is None else await self._documents(find)
        if documents is None:
            documents = await asyncio.to_thread(self._ask_management, url, find)
        return read_documents(url.vhost, documents, find)

    def _ask_management(self, url: BrokerUrl, find: str) -> Documents:
        base = self._management()
        client = ManagementClient.beside(url) if base is None else ManagementClient(base, url)
        return client.documents(find)

    async def change(self, change: BrokerChange) -> ChangeResult:
        """Raises BrokerError and UsageError."""
        async with closing(await self._open()) as connection:
            return await apply(connection, change)

    async def publish(self, message: OutgoingMessage) -> None:
        """Publish and wait for the confirm. Raises BrokerError, also if the message reaches no queue."""
        async with closing(await self._open()) as connection:
            if not message.exchange:
                await count(connection, message.routing_key)
            publisher = await Publisher.open(connection)
            try:
                template = publisher.template(
                    _properties(message), exchange=message.exchange, routing_key=message.routing_key
                )
                await publisher.publish(template, message.body)
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


def _properties(message: OutgoingMessage) -> Basic.Properties:
    """Raises UsageError for properties that AMQP does not have, or that have other values."""
    unknown = message.properties.keys() - _SETTABLE
    if unknown:
        raise UsageError(f"AMQP has no property {min(unknown)!r} that a message can be given")
    given: dict[str, Any] = {"content_type": message.content_type, **message.properties}
    try:
        return Basic.Properties(headers=dict(message.headers) or None, **given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the message cannot be sent: {error}") from error


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
        while len(found) < PEEK_MESSAGES and room > 0 and (message := await get(connection, channel, queue)):
            found.append(message)
            room -= len(message.body)
        if found:
            await connection.ask(channel.basic_nack(len(found), multiple=True, requeue=True))
    finally:
        # Closing the channel requeues the rest after an error.
        await connection.ask(channel.close())
    return found


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

"""Making sure that a queue is there, whatever the broker thinks of the course's kind of queue.

The course declares `hello` as transient and non-exclusive. RabbitMQ 4.3 and later refuse that kind
(541, which ends the connection); an existing queue of another kind refuses it too (406, which ends
the channel). Both are worked around, and said once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msctl.amqp.connection import CONNECT_TIMEOUT, Connection
from msctl.amqp.errors import BrokerRefusedError
from msctl.amqp.url import BrokerUrl

Notify = Callable[[str], None]

NO_TRANSIENT_QUEUES = "transient_nonexcl_queues"
"""What RabbitMQ calls the feature in its 541; the words around it differ between versions."""
_ACCESS_REFUSED, _NOT_FOUND, _PRECONDITION_FAILED = 403, 404, 406


@dataclass(frozen=True, slots=True)
class QueueCount:
    """A queue as the broker counts it: messages ready to be taken, and consumers."""

    name: str
    ready: int
    consumers: int


class NotifyOnce:
    """Passes each different text on once, however often a reconnect repeats it."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._notify(text)


async def open_with_queue(
    url: BrokerUrl, queue: str | None, *, name: str, notify: Notify, timeout: float = CONNECT_TIMEOUT
) -> Connection:
    """Connect, and declare `queue` (None: nothing) as the course does, or as the broker allows.

    `notify` is told what was done differently. Raises what Connection.open and declare do.
    """
    connection = await Connection.open(url, name=name, timeout=timeout)
    if queue is None:
        return connection
    try:
        await declare(connection, queue, notify=notify)
        return connection
    except BrokerRefusedError as refusal:
        await connection.close()
        if NO_TRANSIENT_QUEUES not in refusal.text:
            raise
    except BaseException:
        await connection.close()
        raise
    notify(f"this broker has no transient queues: queue '{queue}' is declared durable")
    connection = await Connection.open(url, name=name, timeout=timeout)
    try:
        await declare(connection, queue, notify=notify, durable=True)
    except BaseException:
        await connection.close()
        raise
    return connection


async def declare(connection: Connection, queue: str, *, notify: Notify, durable: bool = False) -> QueueCount:
    """Declare `queue`: non-exclusive, no auto-delete. One that exists with other properties, or that
    we may not declare, is used as it is.

    Raises BrokerRefusedError (405 where another connection owns the queue), BrokerAwayError.
    """
    channel = await connection.channel()
    try:
        answer = await connection.ask(channel.queue_declare(queue, durable=durable))
    except BrokerRefusedError as refusal:
        if refusal.code not in (_ACCESS_REFUSED, _PRECONDITION_FAILED):
            raise
        try:
            found = await count(connection, queue)
        except BrokerRefusedError as second:
            raise (refusal if second.code == _NOT_FOUND else second) from None
        notify(f"queue '{queue}' is used as it is, and was not declared: {refusal.text}")
        return found
    await connection.ask(channel.close())
    return QueueCount(queue, answer.message_count or 0, answer.consumer_count or 0)


async def count(connection: Connection, queue: str) -> QueueCount:
    """What is in `queue`, without declaring it. Raises BrokerRefusedError (404 where it is not)."""
    channel = await connection.channel()
    answer = await connection.ask(channel.queue_declare(queue, passive=True))
    await connection.ask(channel.close())
    return QueueCount(queue, answer.message_count or 0, answer.consumer_count or 0)


async def require_exchange(connection: Connection, exchange: str) -> None:
    """Return if `exchange` is there. Raises BrokerRefusedError (404) before anything was sent to it."""
    channel = await connection.channel()
    await connection.ask(channel.exchange_declare(exchange, passive=True))
    await connection.ask(channel.close())

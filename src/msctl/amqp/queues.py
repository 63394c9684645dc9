"""Declare a queue as the course does, or as the broker allows.

The course declares `hello` as transient and non-exclusive. RabbitMQ 4.3 and later refuse that with 541,
which closes the connection; an existing queue with other properties refuses it with 406, which closes
the channel. Both are worked around and reported once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic, Queue

from msctl.amqp.connection import CONNECT_TIMEOUT, Connection
from msctl.amqp.errors import BrokerRefusedError
from msctl.amqp.methods import BasicGet, ExchangeDeclare, QueueDeclare
from msctl.amqp.url import BrokerUrl

Notify = Callable[[str], None]

NO_TRANSIENT_QUEUES = "transient_nonexcl_queues"
"""RabbitMQ's name of the deprecated feature in the text of its 541; the rest differs by version."""
_ACCESS_REFUSED, _NOT_FOUND, _PRECONDITION_FAILED = 403, 404, 406


@dataclass(frozen=True, slots=True)
class QueueCount:
    """The broker's counts of a queue's ready messages and consumers; `durable` is None where unknown."""

    name: str
    ready: int
    consumers: int
    durable: bool | None = None


class NotifyOnce:
    """Passes each text on once, however often reconnecting repeats it."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._seen: set[str] = set()

    def __call__(self, text: str) -> None:
        if text not in self._seen:
            self._seen.add(text)
            self._notify(text)


@dataclass(frozen=True, slots=True)
class QueueUse:
    """How a queue is declared, and what is expected of it.

    `persistent` messages are to be in it, which only a durable queue keeps over a restart of the broker.
    `known` means that it was declared before, so that its absence is worth a word.
    """

    name: str
    durable: bool = False
    persistent: bool = False
    known: bool = False


async def open_with_queue(
    url: BrokerUrl,
    queue: QueueUse | str | None,
    *,
    name: str,
    notify: Notify,
    timeout: float = CONNECT_TIMEOUT,
) -> Connection:
    """Connect, and declare `queue` (None: nothing) as the course does or as the broker allows.

    `notify` gets a text for each deviation. Raises the errors of Connection.open and declare.
    """
    connection = await Connection.open(url, name=name, timeout=timeout)
    if queue is None:
        return connection
    use = QueueUse(queue) if isinstance(queue, str) else queue
    try:
        if use.known and not await exists(connection, use.name):
            notify(f"queue '{use.name}' was gone and is declared again: what was in it is lost")
        await _declare_for(connection, use, notify)
        return connection
    except BrokerRefusedError as refusal:
        await connection.close()
        if NO_TRANSIENT_QUEUES not in refusal.text:
            raise
    except BaseException:
        await connection.close()
        raise
    notify(f"this broker does not support transient queues: queue '{use.name}' is declared durable")
    connection = await Connection.open(url, name=name, timeout=timeout)
    try:
        await _declare_for(connection, replace(use, durable=True), notify)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _declare_for(connection: Connection, use: QueueUse, notify: Notify) -> None:
    """Declare the queue, and say if it cannot keep what it is to keep."""
    found = await declare(connection, use.name, notify=notify, durable=use.durable)
    if found.durable is not False:
        return
    if use.durable:
        notify(f"queue '{use.name}' exists and is not durable: it ends with the broker")
    elif use.persistent:
        notify(f"queue '{use.name}' is not durable: a restart of the broker loses its persistent messages")


async def exists(connection: Connection, queue: str) -> bool:
    """Whether there is such a queue. Raises BrokerRefusedError if that cannot be told."""
    try:
        await count(connection, queue)
    except BrokerRefusedError as refusal:
        if refusal.code != _NOT_FOUND:
            raise
        return False
    return True


async def declare(connection: Connection, queue: str, *, notify: Notify, durable: bool = False) -> QueueCount:
    """Declare `queue`: non-exclusive, no auto-delete. An existing queue with other properties, or one
    without permission to declare it, is used as it is.

    Raises BrokerRefusedError (405 if another connection owns the queue) and BrokerAwayError.
    """
    channel = await connection.channel()
    try:
        answer = await _queue_declare(connection, channel, queue, durable=durable)
    except BrokerRefusedError as refusal:
        if refusal.code not in (_ACCESS_REFUSED, _PRECONDITION_FAILED):
            raise
        try:
            found = await count(connection, queue)
        except BrokerRefusedError as second:
            raise (refusal if second.code == _NOT_FOUND else second) from None
        if durable and _is_transient(refusal):
            return replace(found, durable=False)  # said by those who wanted another
        notify(f"queue '{queue}' is used as it exists, without declaring it: {refusal.text}")
        return replace(found, durable=True if _is_durable(refusal) else None)
    await connection.ask(channel.close())
    return QueueCount(queue, answer.message_count or 0, answer.consumer_count or 0, durable)


def _is_durable(refusal: BrokerRefusedError) -> bool:
    """Whether a 406 says that the existing queue is durable, and the declared one was not to be."""
    return "arg 'durable'" in refusal.text and "received 'false'" in refusal.text


def _is_transient(refusal: BrokerRefusedError) -> bool:
    return "arg 'durable'" in refusal.text and "received 'true'" in refusal.text


async def count(connection: Connection, queue: str) -> QueueCount:
    """Count the messages of `queue` with a passive declare. Raises BrokerRefusedError (404 if missing)."""
    channel = await connection.channel()
    answer = await passive_declare(connection, channel, queue)
    await connection.ask(channel.close())
    return QueueCount(queue, answer.message_count or 0, answer.consumer_count or 0)


async def require_exchange(connection: Connection, exchange: str) -> None:
    """Check that `exchange` exists. Raises BrokerRefusedError (404)."""
    channel = await connection.channel()
    await connection.ask(channel.rpc(ExchangeDeclare(exchange=exchange, passive=True)))
    await connection.ask(channel.close())


async def get(connection: Connection, channel: Channel, queue: str) -> DeliveredMessage | None:
    """Take one message without acknowledging it; None from an empty queue. Raises BrokerRefusedError.

    As aiormq's basic_get, for a queue of any name.
    """
    async with channel.getter_lock:
        channel.getter = getter = asyncio.get_running_loop().create_future()
        try:
            await connection.ask(channel.rpc(BasicGet(queue=queue)))
            _, message = await connection.ask(getter)
        except BaseException:
            getter.cancel()
            raise
        finally:
            del channel.getter
    return None if isinstance(message.delivery, Basic.GetEmpty) else message


async def passive_declare(connection: Connection, channel: Channel, queue: str) -> Queue.DeclareOk:
    """Ask for the counts of `queue` on an open channel. Raises BrokerRefusedError (404)."""
    return await _queue_declare(connection, channel, queue, passive=True)


async def _queue_declare(
    connection: Connection, channel: Channel, queue: str, *, passive: bool = False, durable: bool = False
) -> Queue.DeclareOk:
    request = QueueDeclare(queue=queue, passive=passive, durable=durable)
    return cast(Queue.DeclareOk, await connection.ask(channel.rpc(request)))

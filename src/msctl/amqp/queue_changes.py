"""What an operator does to queues over AMQP: declare, bind, purge, delete, and move messages between them.

A message is moved by publishing it and acknowledging it only after the confirm, so that none is lost. After a
failure in between it may be in both queues.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pamqp.base import Frame
from pamqp.commands import Basic, Queue

from msctl.amqp.connection import Connection
from msctl.amqp.delivery import Delivery
from msctl.amqp.errors import NO_ROUTE, BrokerRefusedError
from msctl.amqp.frames import PublishTemplate
from msctl.amqp.gets import Gets
from msctl.amqp.methods import QueueBind, QueueDeclare, QueueDelete, QueuePurge
from msctl.amqp.publisher import Publisher
from msctl.amqp.queues import count
from msctl.errors import UsageError

Target = Callable[[Delivery], str | None]
"""The queue that a message goes to; None leaves it where it is."""

DEATH = "x-death"
"""The header with a dead letter's history, the last death first (RabbitMQ, Dead Letter Exchanges)."""
_PARTS = ("exchange", "queue", "reason")
_HISTORY = frozenset({DEATH, *(f"x-{when}-death-{part}" for when in ("first", "last") for part in _PARTS)})
_PART = 4_000
"""Messages that are taken before they are acknowledged: one at first, and more unless they are large."""
_PART_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Moved:
    """How many messages were moved to each queue, and how many were left."""

    to: Mapping[str, int]
    left: int

    @property
    def count(self) -> int:
        return sum(self.to.values())


async def declare(
    connection: Connection,
    queue: str,
    *,
    durable: bool,
    arguments: Mapping[str, Any],
    bindings: Sequence[tuple[str, str]] = (),
) -> None:
    """Declare a queue and bind it to exchanges (name, routing key). Raises BrokerRefusedError."""
    await ask(
        connection,
        QueueDeclare(queue=queue, durable=durable, arguments=dict(arguments)),
        *(QueueBind(queue=queue, exchange=exchange, routing_key=key) for exchange, key in bindings),
    )


async def purge(connection: Connection, queue: str) -> int:
    """Drop the ready messages of a queue; returns how many. Raises BrokerRefusedError."""
    answer = cast(Queue.PurgeOk, await ask(connection, QueuePurge(queue=queue)))
    return answer.message_count or 0


async def delete(connection: Connection, queue: str) -> int:
    """Delete a queue; returns how many ready messages it held. Raises BrokerRefusedError."""
    await count(connection, queue)  # RabbitMQ deletes one that does not exist without a word
    answer = cast(Queue.DeleteOk, await ask(connection, QueueDelete(queue=queue)))
    return answer.message_count or 0


async def move(connection: Connection, source: str, target: str, limit: int | None = None) -> Moved:
    """Move messages from the head of `source` to the end of `target`. Raises BrokerError and UsageError."""
    if source == target:
        raise UsageError(f"queue {source!r} cannot be moved to itself")
    await count(connection, target)
    return await _move(connection, source, lambda _message: target, limit)


async def requeue_dead(connection: Connection, source: str, limit: int | None = None) -> Moved:
    """Move dead letters back to the queues that they came from; other messages stay.

    They return without their history, so that consumers which count it begin anew.
    """
    return await _move(connection, source, _origin, limit)


def died_in(properties: Basic.Properties) -> str | None:
    """The queue in which a dead letter died last; None for any other message."""
    deaths = (properties.headers or {}).get(DEATH)
    if not isinstance(deaths, list) or not deaths or not isinstance(deaths[0], dict):
        return None
    queue = deaths[0].get("queue")
    return queue if isinstance(queue, str) and queue else None


def _origin(message: Delivery) -> str | None:
    return died_in(message.properties)


async def _move(connection: Connection, source: str, target: Target, limit: int | None) -> Moved:
    present = (await count(connection, source)).ready
    to_do = present if limit is None else min(present, limit)
    moved: dict[str, int] = {}
    left = 0
    gets = await Gets.open(connection, source)
    publisher = await Publisher.open(connection)
    copies = _Copies(publisher)
    part = 1
    try:
        while to_do > 0:
            taken = await gets.take(min(to_do, part))
            done = []
            for tag, message in taken:
                queue = target(message)
                if queue is None or queue == source:
                    left += 1  # held, so that it does not come again; it returns with the channel's end
                    continue
                await copies.publish(message, queue)
                done.append(tag)
                moved[queue] = moved.get(queue, 0) + 1
            await publisher.drain()
            if publisher.refused:
                why = publisher.stats().refusals[0].reason
                raise BrokerRefusedError(f"a message was not moved: {why}", code=NO_ROUTE, text=why)
            await gets.ack(done, multiple=not left)
            if len(taken) < min(to_do, part):
                break
            to_do -= len(taken)
            size = sum(len(message.body) for _, message in taken) // len(taken)
            part = max(1, min(_PART, 8 * part, _PART_BYTES // max(1, size)))
    finally:
        await publisher.close()
        await gets.close()
    return Moved(moved, left)


class _Copies:
    """Publishes messages again. Neighbours often have equal properties, and then share a template."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._made_for: tuple[bytes, str] | None = None
        self._template: PublishTemplate | None = None

    async def publish(self, message: Delivery, queue: str) -> None:
        made_for = message.encoded_properties, queue
        if self._template is None or made_for != self._made_for:
            properties = message.properties
            if died_in(properties) == queue:
                headers = {
                    name: value for name, value in (properties.headers or {}).items() if name not in _HISTORY
                }
                properties.headers = headers or None
            self._template = self._publisher.template(properties, exchange="", routing_key=queue)
            self._made_for = made_for
        await self._publisher.publish_nowait(self._template, message.body)


async def ask(connection: Connection, *requests: Frame) -> object:
    """Send requests on a channel of their own; returns the last answer. Raises BrokerRefusedError."""
    channel = await connection.channel()
    answer: object = None
    for request in requests:
        answer = await connection.ask(channel.rpc(request))
    await connection.ask(channel.close())
    return answer

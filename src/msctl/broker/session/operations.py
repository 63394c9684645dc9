"""What an operator does with a queue's messages: move them, give dead letters another try. No sockets.

Each message is published like a client's, so that it is routed, counted and stored by the same rules, and
acknowledged in its old queue afterwards: one that finds no queue stays where it was. The functions are
generators that do a step each time, so that the caller can do other things between steps.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple

from msctl.broker.core.access import UNRESTRICTED
from msctl.broker.core.broker import Broker
from msctl.broker.core.dead_letter import X_DEATH
from msctl.broker.core.exchanges import Binding
from msctl.broker.core.messages import Message, Taken
from msctl.broker.core.queues import ExpiringError, Queue
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.protocol.properties import headers_of, join, split, with_headers
from msctl.broker.protocol.replies import AmqpError
from msctl.broker.protocol.tables import Table
from msctl.broker.protocol.wire import split_route
from msctl.broker.session.buffers import Outbox
from msctl.broker.session.publish_handler import PublishHandler

MESSAGES_PER_STEP = 100
_FIRST_DEATH = b"x-first-death-"


class Destination(NamedTuple):
    """Where a message goes, and with which properties."""

    exchange: str
    key: str
    properties: bytes


@dataclass(slots=True)
class Moved:
    """How many messages have moved, and how many stayed because they found no queue."""

    moved: int = 0
    stayed: int = 0


Choose = Callable[[Message], Destination | None]
"""Where a message goes; None leaves it where it is."""


def bindings_to(vhost: VirtualHost, queue: Queue) -> list[Binding]:
    """The bindings of a queue that were made; that to the default exchange is implicit."""
    return list(vhost.routing.bindings.leading_to(queue))


def move(
    broker: Broker, vhost: VirtualHost, queue: Queue, choose: Choose, result: Moved, limit: int | None = None
) -> Generator[None, None, None]:
    """Move the messages that are ready now, at most `limit`; `result` tells how many so far."""
    handler = PublishHandler(0, broker, vhost, "", UNRESTRICTED, Outbox(lambda: None))
    left = queue.ready.count if limit is None else min(limit, queue.ready.count)
    stayed: list[Taken] = []
    try:
        while left > 0 and not queue.deleted:
            for _ in range(min(left, MESSAGES_PER_STEP)):
                left -= 1
                try:
                    got = queue.get(no_ack=False)
                except ExpiringError:
                    break
                if got is None:
                    return
                number, message, _ = got
                if _publish(handler, message, choose):
                    queue.ack(message)
                    result.moved += 1
                else:
                    stayed.append((number, message))
                    result.stayed += 1
            yield
    finally:
        queue.requeue(stayed)


def _publish(handler: PublishHandler, message: Message, choose: Choose) -> bool:
    """Whether a queue got the message."""
    destination = choose(message)
    if destination is None:
        return False
    try:
        return handler.publish(destination.exchange, destination.key, destination.properties, message[2])
    except AmqpError:
        return False


def to_queue(name: str) -> Choose:
    """Every message to one queue, with the properties that it has."""
    return lambda message: Destination("", name, message[1])


def back_from_death(message: Message) -> Destination | None:
    """A dead letter to the queue in which it died first, without the headers of its death.

    None for a message that is no dead letter.
    """
    parts = split(message[1])
    headers: Table = headers_of(parts) or {}
    kind, name = headers.get(_FIRST_DEATH + b"queue", ("V", None))
    if kind != "S" or X_DEATH not in headers:
        return None
    kept = {
        key: field for key, field in headers.items() if key != X_DEATH and not key.startswith(_FIRST_DEATH)
    }
    return Destination("", name.decode(errors="surrogateescape"), join(with_headers(parts, kept)))


def to_exchange(exchange: str, key: str | None = None) -> Choose:
    """Every message to an exchange, with its own routing key or another one."""
    return lambda message: Destination(
        exchange, split_route(message[0])[1] if key is None else key, message[1]
    )

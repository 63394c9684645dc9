"""What a broker has, and what is published to it, as the page shows and asks it. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MOST = 500
"""How many of each kind are shown; `Messaging.totals` counts all."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """The default exchange's name is empty."""

    name: str
    type: str
    durable: bool
    auto_delete: bool
    internal: bool
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Binding:
    """From an exchange to a queue, or to another exchange; those of the default exchange are not listed."""

    exchange: str
    to: str
    to_exchange: bool
    routing_key: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Queue:
    """`published`, `delivered` and `acked` count its messages since the broker started."""

    name: str
    type: str
    durable: bool
    auto_delete: bool
    exclusive: bool
    arguments: Mapping[str, Any]
    policy: str
    ready: int
    unacked: int
    consumers: int
    bytes: int
    published: int
    delivered: int
    acked: int


@dataclass(frozen=True, slots=True)
class Connection:
    """`client` is the name that its program gave it, or the library's; `connected_at` is epoch seconds."""

    name: str
    user: str
    client: str
    state: str
    channels: int
    connected_at: float
    received_bytes: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class Channel:
    name: str
    connection: str
    number: int
    consumers: int
    prefetch: int
    unacked: int
    unconfirmed: int
    confirms: bool
    transactional: bool


@dataclass(frozen=True, slots=True)
class Consumer:
    queue: str
    tag: str
    connection: str
    channel: int
    prefetch: int
    ack_required: bool
    exclusive: bool
    active: bool


@dataclass(frozen=True, slots=True)
class Messaging:
    """Everything in the virtual host that the stack uses; up to MOST of each kind, by name."""

    vhost: str
    exchanges: tuple[Exchange, ...]
    bindings: tuple[Binding, ...]
    queues: tuple[Queue, ...]
    connections: tuple[Connection, ...]
    channels: tuple[Channel, ...]
    consumers: tuple[Consumer, ...]
    totals: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message for an exchange. `properties` are AMQP's basic properties by their names, where given."""

    exchange: str
    routing_key: str
    body: bytes
    content_type: str = "text/plain"
    headers: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    properties: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeclareQueue:
    name: str
    durable: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeleteQueue:
    name: str


@dataclass(frozen=True, slots=True)
class PurgeQueue:
    name: str


@dataclass(frozen=True, slots=True)
class DeclareExchange:
    name: str
    type: str
    durable: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeleteExchange:
    name: str


@dataclass(frozen=True, slots=True)
class Bind:
    """Bind a queue or, with `to_exchange`, an exchange to an exchange."""

    exchange: str
    to: str
    routing_key: str = ""
    to_exchange: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unbind:
    """Remove the binding with exactly these values."""

    exchange: str
    to: str
    routing_key: str = ""
    to_exchange: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MoveMessages:
    """Move the ready messages of a queue to another, all or the first `limit`."""

    source: str
    target: str
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class RequeueDead:
    """Move dead letters back to the queues in which they died; other messages stay."""

    name: str
    limit: int | None = None


BrokerChange = (
    DeclareQueue
    | DeleteQueue
    | PurgeQueue
    | DeclareExchange
    | DeleteExchange
    | Bind
    | Unbind
    | MoveMessages
    | RequeueDead
)


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """How many messages were purged, deleted with their queue, or moved; `left` of those to move stayed."""

    messages: int = 0
    left: int = 0

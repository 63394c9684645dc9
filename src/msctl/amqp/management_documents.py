"""The documents of RabbitMQ's management API, read into what the page shows. Pure.

The embedded broker makes the same documents. A field that a broker leaves out, as RabbitMQ does while it has
no statistics yet, counts as none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from msctl.model.messaging import (
    MOST,
    Binding,
    Channel,
    Connection,
    Consumer,
    Exchange,
    Messaging,
    Queue,
)

Document = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DocumentList:
    """Some documents of one kind; `total` counts all of that kind, None for no others than these."""

    items: Sequence[Document]
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Documents:
    """What one virtual host has."""

    exchanges: DocumentList
    bindings: DocumentList
    queues: DocumentList
    connections: DocumentList
    channels: DocumentList
    consumers: DocumentList


def read_documents(vhost: str, documents: Documents, find: str = "") -> Messaging:
    """Read what has `find` in one of its names, up to MOST of each kind, in the order of their names."""
    needle = find.lower()
    totals: dict[str, int] = {}

    def read(kind: str, make: Callable[[Document], T], *names: str) -> tuple[T, ...]:
        found: DocumentList = getattr(documents, kind)
        kept = [one for one in found.items if any(needle in text.lower() for text in _texts(one, names))]
        totals[kind] = len(kept) if found.total is None else max(found.total, len(kept))
        kept.sort(key=lambda one: _texts(one, names))
        return tuple(make(one) for one in kept[:MOST])

    return Messaging(
        vhost,
        exchanges=read("exchanges", _exchange, "name"),
        bindings=read("bindings", _binding, "source", "destination", "routing_key"),
        queues=read("queues", _queue, "name"),
        connections=read("connections", _connection, "name", "user", "user_provided_name"),
        channels=read("channels", _channel, "name"),
        consumers=read("consumers", _consumer, "queue", "consumer_tag"),
        totals=totals,
    )


def _texts(document: Document, names: Iterable[str]) -> list[str]:
    found = (document.get(name) for name in names)
    return [str(one.get("name", "") if isinstance(one, Mapping) else one or "") for one in found]


def _number(document: Document, name: str) -> int:
    value = document.get(name)
    return value if isinstance(value, int) else 0


def _text(document: Document, name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def _table(document: Document, name: str) -> Mapping[str, Any]:
    value = document.get(name)
    return value if isinstance(value, Mapping) else {}


def _exchange(one: Document) -> Exchange:
    return Exchange(
        _text(one, "name"),
        _text(one, "type"),
        bool(one.get("durable")),
        bool(one.get("auto_delete")),
        bool(one.get("internal")),
        _table(one, "arguments"),
    )


def _binding(one: Document) -> Binding:
    return Binding(
        _text(one, "source"),
        _text(one, "destination"),
        one.get("destination_type") == "exchange",
        _text(one, "routing_key"),
        _table(one, "arguments"),
    )


def _queue(one: Document) -> Queue:
    stats = _table(one, "message_stats")
    return Queue(
        _text(one, "name"),
        _text(one, "type") or "classic",
        bool(one.get("durable")),
        bool(one.get("auto_delete")),
        bool(one.get("exclusive")),
        _table(one, "arguments"),
        _text(one, "policy"),
        _number(one, "messages_ready"),
        _number(one, "messages_unacknowledged"),
        _number(one, "consumers"),
        _number(one, "message_bytes"),
        _number(stats, "publish"),
        _number(stats, "deliver_get"),
        _number(stats, "ack"),
    )


def _connection(one: Document) -> Connection:
    client = _table(one, "client_properties")
    return Connection(
        _text(one, "name"),
        _text(one, "user"),
        _text(one, "user_provided_name") or _text(client, "connection_name") or _text(client, "product"),
        _text(one, "state") or "running",
        _number(one, "channels"),
        _number(one, "connected_at") / 1000,
        _number(one, "recv_oct"),
        _number(one, "send_oct"),
    )


def _channel(one: Document) -> Channel:
    return Channel(
        _text(one, "name"),
        _text(_table(one, "connection_details"), "name"),
        _number(one, "number"),
        _number(one, "consumer_count"),
        _number(one, "prefetch_count"),
        _number(one, "messages_unacknowledged"),
        _number(one, "messages_unconfirmed"),
        bool(one.get("confirm")),
        bool(one.get("transactional")),
    )


def _consumer(one: Document) -> Consumer:
    channel = _table(one, "channel_details")
    return Consumer(
        _text(_table(one, "queue"), "name"),
        _text(one, "consumer_tag"),
        _text(channel, "connection_name"),
        _number(channel, "number"),
        _number(one, "prefetch_count"),
        bool(one.get("ack_required")),
        bool(one.get("exclusive")),
        one.get("active") is not False,
    )

"""Browse a queue: copies of its first messages, cut to the size that the dashboard shows. Pure.

Browsing changes nothing: no position, counter, consumer order or time to live.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from itertools import islice
from typing import Any

from msctl.broker.core.messages import Message
from msctl.broker.core.queues import Queue
from msctl.broker.protocol.properties import CONTENT_TYPE, headers_of, short_text, split
from msctl.broker.protocol.tables import FieldValue
from msctl.broker.protocol.wire import split_route
from msctl.model.queue_messages import (
    PEEK_BODY,
    PEEK_BYTES,
    PEEK_HEADER,
    PEEK_HEADERS,
    PEEK_MESSAGES,
    PeekedMessage,
    QueueLook,
)


def browse(queue: Queue) -> QueueLook:
    """The messages at the head of the queue: at most PEEK_MESSAGES, and about PEEK_BYTES of them."""
    found: list[tuple[bytes, PeekedMessage]] = []
    room = PEEK_BYTES
    now = queue.host.clock.monotonic()
    for message, redelivered in islice(queue.ready.waiting(), PEEK_MESSAGES):
        _, properties, body, expires, _ = message
        if expires is not None and expires <= now:
            continue  # about to be dropped
        room -= len(properties) + min(len(body), PEEK_BODY)
        if found and room < 0:
            break
        found.append((_mark(message), _shown(message, redelivered)))
    return found


def _mark(message: Message) -> bytes:
    route, properties, body, _, _ = message
    digest = sha256(body[:PEEK_BODY])
    digest.update(repr((route, properties, len(body))).encode())
    return digest.digest()


def _shown(message: Message, redelivered: bool) -> PeekedMessage:
    route, properties, body, _, _ = message
    exchange, routing_key = split_route(route)
    parts = split(properties)
    headers = headers_of(parts) or {}
    return PeekedMessage(
        body=body[:PEEK_BODY].decode(errors="backslashreplace"),
        size=len(body),
        exchange=_printable(exchange),
        routing_key=_printable(routing_key),
        content_type=(short_text(parts, CONTENT_TYPE) or b"").decode(errors="backslashreplace"),
        headers={
            name.decode(errors="backslashreplace"): str(_plain(field))[:PEEK_HEADER]
            for name, field in islice(headers.items(), PEEK_HEADERS)
        },
        redelivered=redelivered,
    )


def _printable(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _plain(field: FieldValue) -> Any:
    """A field's value as a client library returns it."""
    kind, value = field
    match kind:
        case "S":
            return value.decode(errors="backslashreplace")
        case "F":
            return {name.decode(errors="backslashreplace"): _plain(inner) for name, inner in value.items()}
        case "A":
            return [_plain(inner) for inner in value]
        case "D":
            scale, number = value
            return Decimal(number).scaleb(-scale)
        case "T":
            return _moment(value)
        case _:
            return value


def _moment(seconds: int) -> Any:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return seconds

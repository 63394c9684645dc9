"""Messages as text, JSON lines or raw bytes. Pure: takes a message, returns bytes for standard output."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from msctl.cli.options.message_options import MessageFormat
from msctl.cli.output.terminal import printable, safe_json

if TYPE_CHECKING:
    from msctl.amqp.delivery import Delivery

_PROPERTIES = (
    "content_type",
    "content_encoding",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "message_type",
    "user_id",
    "app_id",
    "cluster_id",
)


def shown(body: bytes) -> str:
    """Return a body as text that is safe on a terminal, without its last line end.

    Bytes that are not UTF-8, and control characters other than tabs and line ends, become escapes.
    """
    text = body.decode(errors="backslashreplace").removesuffix("\n")
    return "\n".join(printable(line, colours=False) for line in text.split("\n"))


def received(delivery: Delivery) -> bytes:
    """Return the course's line: `Received a message: TEXT`."""
    return f"Received a message: {shown(delivery.body)}\n".encode()


def raw(delivery: Delivery) -> bytes:
    """Return the body byte for byte, and a line end."""
    return delivery.body + b"\n"


def as_json(delivery: Delivery) -> bytes:
    """Return one JSON object on a line; `body_encoding` is base64 for a body that is not UTF-8."""
    body, encoding = _text_or_base64(delivery.body)
    properties = {}
    for name in _PROPERTIES:
        value = getattr(delivery.properties, name)
        if value is not None and value != "":
            properties["type" if name == "message_type" else name] = _plain(value)
    document = {
        "body": body,
        "body_encoding": encoding,
        "exchange": delivery.exchange,
        "routing_key": delivery.routing_key,
        "redelivered": delivery.redelivered,
        "properties": properties,
        "headers": _plain(delivery.properties.headers or {}),
    }
    return safe_json(json.dumps(document, ensure_ascii=False)).encode(errors="backslashreplace") + b"\n"


RENDERERS: dict[MessageFormat, Callable[[Delivery], bytes]] = {
    MessageFormat.TEXT: received,
    MessageFormat.JSON: as_json,
    MessageFormat.RAW: raw,
}


def _text_or_base64(data: bytes) -> tuple[str, str]:
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(data).decode(), "base64"


def _plain(value: object) -> object:
    """Convert a header's value to JSON: times as ISO 8601, bytes as text or as {"base64": …}."""
    match value:
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case bytes() | bytearray():
            text, encoding = _text_or_base64(bytes(value))
            return text if encoding == "utf-8" else {"base64": text}
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case Decimal():
            return str(value)
        case float() if value != value or value in (float("inf"), float("-inf")):
            return str(value)
        case _:
            return value

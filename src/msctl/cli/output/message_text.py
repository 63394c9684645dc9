"""Messages as text, JSON lines or raw bytes. Pure: a message in, bytes for standard output out."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msctl.amqp.consumer import Delivery

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
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


class Form(StrEnum):
    """How `consume` prints a message."""

    TEXT = "text"
    JSON = "json"
    RAW = "raw"


def shown(body: bytes) -> str:
    """A body as text that is safe on a terminal: what is not UTF-8, and control characters but for
    tabs and line ends, become escapes; the line end at its end is left out."""
    text = body.decode(errors="backslashreplace").removesuffix("\n")
    return _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", text)


def received(delivery: Delivery) -> bytes:
    return f"Received a message: {shown(delivery.body)}\n".encode()


def raw(delivery: Delivery) -> bytes:
    """The body byte for byte, and a line end."""
    return delivery.body + b"\n"


def as_json(delivery: Delivery) -> bytes:
    """One JSON object on one line; a body that is not UTF-8 is in base64, and `body_encoding` says so."""
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
    return json.dumps(document, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


RENDERERS: dict[Form, Callable[[Delivery], bytes]] = {
    Form.TEXT: received,
    Form.JSON: as_json,
    Form.RAW: raw,
}


def _text_or_base64(data: bytes) -> tuple[str, str]:
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(data).decode(), "base64"


def _plain(value: object) -> object:
    """A header's value as JSON has it: times as ISO 8601, bytes as text or as {"base64": …}."""
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

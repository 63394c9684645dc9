"""Message properties to and from JSON, as RabbitMQ's management API writes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any

from msctl.broker.protocol.json_tables import JsonTableError, bytes_to_json, table_from_json, table_to_json
from msctl.broker.protocol.properties import HEADERS, Parts, headers_of, join, split
from msctl.broker.protocol.tables import encode_table
from msctl.broker.protocol.wire import shortstr

_NAMES = {
    15: "content_type",
    14: "content_encoding",
    13: "headers",
    12: "delivery_mode",
    11: "priority",
    10: "correlation_id",
    9: "reply_to",
    8: "expiration",
    7: "message_id",
    6: "timestamp",
    5: "type",
    4: "user_id",
    3: "app_id",
    2: "cluster_id",
}
"""Properties by the bit of their flag."""
_BITS = {name: bit for bit, name in _NAMES.items()}
_NUMBERS = {12: Struct(">B"), 11: Struct(">B"), 6: Struct(">Q")}


def name_text(name: str) -> str:
    """A name as the broker keeps it, in text that can be encoded."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def properties_to_json(raw: bytes) -> dict[str, Any]:
    parts = split(raw)
    found: dict[str, Any] = {}
    for bit, encoded in parts.items():
        number = _NUMBERS.get(bit)
        if bit == HEADERS:
            found["headers"] = table_to_json(headers_of(parts) or {})
        elif number is not None:
            found[_NAMES[bit]] = number.unpack(encoded)[0]
        else:
            found[_NAMES[bit]] = bytes_to_json(encoded[1:])
    return found


def properties_from_json(values: Mapping[str, Any]) -> bytes:
    """The encoded properties; unknown names are ignored, as by RabbitMQ. Raises JsonTableError."""
    parts: Parts = {}
    for name, value in values.items():
        bit = _BITS.get(name)
        if bit is None:
            continue
        number = _NUMBERS.get(bit)
        if bit == HEADERS:
            if not isinstance(value, dict):
                raise JsonTableError("headers must be an object")
            parts[bit] = encode_table(table_from_json(value))
        elif number is not None:
            parts[bit] = _number(name, value, number)
        else:
            if not isinstance(value, str):
                raise JsonTableError(f"{name} must be a string")
            parts[bit] = shortstr(_short(value).decode(errors="surrogateescape"))
    return join(parts)


def _number(name: str, value: Any, number: Struct) -> bytes:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 8 * number.size:
        raise JsonTableError(f"{name} must be a whole number of {number.size} bytes")
    return number.pack(value)


def _short(value: str) -> bytes:
    encoded = value.encode(errors="surrogatepass")
    if len(encoded) > 255:
        raise JsonTableError("a name or short string takes more than 255 bytes")
    return encoded

"""Field tables to and from JSON, as RabbitMQ writes them in definitions and in its management API. Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any

from msctl.broker.protocol.tables import MAX_DEPTH, FieldValue, Table

_MAX_INTEGER = (1 << 63) - 1
_MAX_NAME = 255


class JsonTableError(ValueError):
    """A JSON value that a field table cannot hold."""


def bytes_to_json(data: bytes) -> str:
    """Bytes as text; what is no UTF-8 as base64."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return b64encode(data).decode()


def table_to_json(table: Table) -> dict[str, Any]:
    return {bytes_to_json(name): _field_to_json(field) for name, field in table.items()}


def _field_to_json(field: FieldValue) -> Any:
    kind, value = field
    match kind:
        case "S" | "x":
            return bytes_to_json(value)
        case "F":
            return table_to_json(value)
        case "A":
            return [_field_to_json(item) for item in value]
        case "D":
            scale, number = value
            return float(Decimal(number).scaleb(-scale))
        case "d" | "f":
            return value if isfinite(value) else str(value)
        case _:
            return value


def table_from_json(values: Mapping[str, Any], depth: int = 0) -> Table:
    """Integers become signed 64-bit ones, other numbers doubles. Raises JsonTableError."""
    return {_name(name): _field_from_json(value, depth) for name, value in values.items()}


def _field_from_json(value: Any, depth: int) -> FieldValue:
    if depth >= MAX_DEPTH - 1:
        raise JsonTableError("tables are nested too deeply")
    match value:
        case bool():
            return "t", value
        case int():
            if abs(value) > _MAX_INTEGER:
                raise JsonTableError(f"{value} does not fit into 64 bits")
            return "l", value
        case float():
            return "d", value
        case str():
            return "S", value.encode(errors="surrogatepass")
        case dict():
            return "F", table_from_json(value, depth + 1)
        case list():
            return "A", [_field_from_json(item, depth + 1) for item in value]
    raise JsonTableError("null is not allowed")


def _name(name: str) -> bytes:
    encoded = name.encode(errors="surrogatepass")
    if len(encoded) > _MAX_NAME:
        raise JsonTableError(f"a field's name takes at most {_MAX_NAME} bytes")
    return encoded

"""Field tables to and from bytes, in RabbitMQ's dialect.

A value keeps its type letter, which equivalence checks, header matching and relaying need: `S` bytes,
`x` bytes, `A` a list of values, `F` a table, `D` (scale, number), `V` None.
Sources: AMQP 0-9-1 section 4.2.1 and RabbitMQ's errata: `l` and `L` are signed 64 bits, `b` is signed
and `B` unsigned 8 bits, `s` is signed and `u` unsigned 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct, error
from typing import Any

FieldValue = tuple[str, Any]
"""A type letter and its value."""
Table = dict[bytes, FieldValue]
"""Field names are bytes because AMQP does not require them to be text."""

MAX_DEPTH = 64
"""Nesting of tables; far below Python's recursion limit."""

TYPE_NAMES = {
    "S": "longstr",
    "T": "timestamp",
    "b": "byte",
    "B": "unsignedbyte",
    "s": "short",
    "u": "unsignedshort",
    "I": "signedint",
    "i": "unsignedint",
    "d": "double",
    "f": "float",
    "l": "long",
    "t": "bool",
    "D": "decimal",
    "F": "table",
    "A": "array",
    "x": "binary",
    "V": "void",
}

INTEGERS = frozenset("bBsuIil")

_FIXED = {
    "T": Struct(">Q"),
    "b": Struct(">b"),
    "B": Struct(">B"),
    "s": Struct(">h"),
    "u": Struct(">H"),
    "I": Struct(">i"),
    "i": Struct(">I"),
    "d": Struct(">d"),
    "f": Struct(">f"),
    "l": Struct(">q"),
    "L": Struct(">q"),
}
_LENGTH = Struct(">I")
_DECIMAL = Struct(">BI")


class MalformedError(ValueError):
    """Bytes that are no valid field table, method or property list."""


def decode_table(data: bytes, position: int, end: int, depth: int = 0) -> Table:
    """Decode the table in `data[position:end]`, without its length prefix.

    The first of several fields with the same name wins. Raises MalformedError.
    """
    table: Table = {}
    try:
        while position < end:
            start = position + 1
            position = start + data[position]
            name = data[start:position]
            field, position = _decode_field(data, position, end, depth)
            table.setdefault(name, field)
    except (error, IndexError) as exc:
        raise MalformedError("a field runs past the end of its table") from exc
    if position != end:
        raise MalformedError("a field runs past the end of its table")
    return table


def _decode_array(data: bytes, position: int, end: int, depth: int) -> list[FieldValue]:
    fields: list[FieldValue] = []
    while position < end:
        field, position = _decode_field(data, position, end, depth)
        fields.append(field)
    if position != end:
        raise MalformedError("a field runs past the end of its array")
    return fields


def _decode_field(data: bytes, position: int, end: int, depth: int) -> tuple[FieldValue, int]:
    if position >= end:
        raise MalformedError("a field has no type")
    kind = chr(data[position])
    position += 1
    fixed = _FIXED.get(kind)
    if fixed is not None:
        (value,) = fixed.unpack_from(data, position)
        return ("l" if kind == "L" else kind, value), position + fixed.size
    if kind == "t":
        return ("t", data[position] != 0), position + 1
    if kind == "D":
        return ("D", _DECIMAL.unpack_from(data, position)), position + 5
    if kind == "V":
        return ("V", None), position
    if kind not in "SxFA":
        raise MalformedError(f"unknown field type {kind!r}")
    (size,) = _LENGTH.unpack_from(data, position)
    position += 4
    stop = position + size
    if stop > end:
        raise MalformedError("a field runs past the end of its table")
    if kind in "Sx":
        return (kind, data[position:stop]), stop
    if depth >= MAX_DEPTH:
        raise MalformedError("tables are nested too deeply")
    if kind == "F":
        return ("F", decode_table(data, position, stop, depth + 1)), stop
    return ("A", _decode_array(data, position, stop, depth + 1)), stop


def encode_table(table: Table) -> bytes:
    """Encode a table with its length prefix."""
    body = b"".join(
        bytes((len(name),)) + name + kind.encode() + _encode_value(kind, value)
        for name, (kind, value) in table.items()
    )
    return _LENGTH.pack(len(body)) + body


def _encode_value(kind: str, value: Any) -> bytes:
    fixed = _FIXED.get(kind)
    if fixed is not None:
        return fixed.pack(value)
    if kind == "t":
        return b"\x01" if value else b"\x00"
    if kind == "D":
        return _DECIMAL.pack(*value)
    if kind == "V":
        return b""
    if kind == "F":
        return encode_table(value)
    if kind == "A":
        body = b"".join(item.encode() + _encode_value(item, inner) for item, inner in value)
        return _LENGTH.pack(len(body)) + body
    return _LENGTH.pack(len(value)) + bytes(value)


def text_field(value: str | bytes) -> FieldValue:
    return "S", value.encode() if isinstance(value, str) else value


def texts(table: Table, name: bytes) -> list[bytes]:
    """The long strings in the array `name`; empty if there is no such array."""
    kind, value = table.get(name, ("V", None))
    return strings(value) if kind == "A" else []


def strings(fields: Iterable[FieldValue]) -> list[bytes]:
    return [value for kind, value in fields if kind == "S"]

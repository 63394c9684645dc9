"""The records of the log, to bytes and back. Pure.

The format is in the package's docstring. All numbers are little-endian; texts are UTF-8 with the bytes
that are none kept (surrogateescape); tables and routes are in AMQP's own encoding.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct, error
from typing import NamedTuple

from msctl.broker.core.journal import Entries, StoredDelay
from msctl.broker.protocol.tables import Table, decode_table, encode_table
from msctl.broker.storage.blocks import DamagedError

MESSAGE, QUEUE, EXCHANGE, BINDING, META, DELAYED = 1, 2, 3, 4, 5, 13
REMOVED, PURGED, DELIVERED, COUNTED, SEALED, OPENED, CLOSED = range(6, 13)
ITEMS = frozenset({QUEUE, EXCHANGE, BINDING, META, DELAYED})
"""The kinds whose payload `read_item` decodes."""

MESSAGE_HEAD = Struct("<BIHIIQQd")
"""Kind, number of entries, sizes of route, properties and body; the first entry. The others follow."""
ENTRY = Struct("<QQd")
"""Number, the queue's number, when it expires."""
ITEM_HEAD = Struct("<BQI")
"""Kind, number, size of the payload: of the kinds in ITEMS."""
NUMBERS_HEAD = Struct("<BI")
"""Kind (REMOVED, DELIVERED) and how many numbers follow."""
PURGED_HEAD = Struct("<BQQI")
"""Kind, the queue, the first number that is not purged, how many numbers of kept entries follow."""
COUNTED_RECORD = Struct("<BQI")
"""Kind, number, deliveries: of a message in a quorum queue."""
NUMBER_SIZE = 8
_TEXT = Struct("<I")
_DELAY = Struct("<dqqBIIII")
"""When it is due, delay, time to live (-1: none), priority, number of keys; sizes of route, properties and
body."""
_AUTO_DELETE, _INTERNAL = 1, 2


class BadRecordError(DamagedError):
    """Bytes with a valid checksum that are no record."""


@dataclass(frozen=True, slots=True)
class StoredQueue:
    vhost: str
    name: str
    auto_delete: bool
    arguments: Table


@dataclass(frozen=True, slots=True)
class StoredExchange:
    vhost: str
    name: str
    kind: str
    auto_delete: bool
    internal: bool
    arguments: Table


@dataclass(frozen=True, slots=True)
class StoredBinding:
    """`kind` is "queue" or "exchange": what the destination is."""

    vhost: str
    source: str
    destination: str
    kind: str
    key: str
    arguments: Table


@dataclass(frozen=True, slots=True)
class StoredMeta:
    kind: str
    key: str
    document: bytes


Item = StoredQueue | StoredExchange | StoredBinding | StoredMeta | StoredDelay


def message_head(route: bytes, properties: bytes, body: bytes, entries: Entries) -> bytes:
    """What precedes route, properties and body in the record of a message."""
    number, queue, expires = entries[0]
    head = MESSAGE_HEAD.pack(
        MESSAGE, len(entries), len(route), len(properties), len(body), number, queue, expires
    )
    if len(entries) == 1:
        return head
    return head + b"".join(ENTRY.pack(*entry) for entry in entries[1:])


def item_record(number: int, item: Item) -> bytes:
    kind, payload = _encode(item)
    return ITEM_HEAD.pack(kind, number, len(payload)) + payload


def _encode(item: Item) -> tuple[int, bytes]:
    match item:
        case StoredQueue():
            head = _texts(item.vhost, item.name) + bytes((_AUTO_DELETE * item.auto_delete,))
            return QUEUE, head + encode_table(item.arguments)
        case StoredExchange():
            flags = _AUTO_DELETE * item.auto_delete | _INTERNAL * item.internal
            head = _texts(item.vhost, item.name, item.kind) + bytes((flags,))
            return EXCHANGE, head + encode_table(item.arguments)
        case StoredBinding():
            head = _texts(item.vhost, item.source, item.destination, item.kind, item.key)
            return BINDING, head + encode_table(item.arguments)
        case StoredMeta():
            return META, _texts(item.kind, item.key) + item.document
        case StoredDelay():
            return DELAYED, _encode_delay(item)


def _encode_delay(item: StoredDelay) -> bytes:
    content = (item.route, item.properties, item.body)
    ttl = -1 if item.ttl_ms is None else item.ttl_ms
    head = _DELAY.pack(item.due, item.delay, ttl, item.priority, len(item.keys), *map(len, content))
    return b"".join((head, _texts(item.vhost, item.exchange, *item.keys), *content))


def _read_delay(payload: bytes) -> StoredDelay:
    due, delay, ttl, priority, count, *sizes = _DELAY.unpack_from(payload)
    (vhost, exchange, *keys), at = _read_texts(payload[_DELAY.size :], 2 + count)
    at += _DELAY.size
    if at + sum(sizes) != len(payload):
        raise IndexError(at)
    content = []
    for size in sizes:
        content.append(payload[at : at + size])
        at += size
    route, properties, body = content
    limit = None if ttl < 0 else ttl
    return StoredDelay(vhost, exchange, due, delay, tuple(keys), route, properties, body, limit, priority)


def read_item(kind: int, payload: bytes) -> Item:
    """Decode the payload of a record of a kind in ITEMS. Raises BadRecordError."""
    try:
        if kind == QUEUE:
            (vhost, name), at = _read_texts(payload, 2)
            return StoredQueue(vhost, name, bool(payload[at] & _AUTO_DELETE), _table(payload, at + 1))
        if kind == EXCHANGE:
            (vhost, name, type_name), at = _read_texts(payload, 3)
            flags = payload[at]
            return StoredExchange(
                vhost,
                name,
                type_name,
                bool(flags & _AUTO_DELETE),
                bool(flags & _INTERNAL),
                _table(payload, at + 1),
            )
        if kind == BINDING:
            (vhost, source, destination, end, key), at = _read_texts(payload, 5)
            return StoredBinding(vhost, source, destination, end, key, _table(payload, at))
        if kind == DELAYED:
            return _read_delay(payload)
        (what, key), at = _read_texts(payload, 2)
        return StoredMeta(what, key, payload[at:])
    except (error, IndexError, ValueError) as exc:
        raise BadRecordError(f"a record of kind {kind} cannot be read") from exc


def _texts(*texts: str) -> bytes:
    encoded = [text.encode(errors="surrogateescape") for text in texts]
    return b"".join(_TEXT.pack(len(text)) + text for text in encoded)


def _read_texts(payload: bytes, count: int) -> tuple[list[str], int]:
    found: list[str] = []
    at = 0
    for _ in range(count):
        (size,) = _TEXT.unpack_from(payload, at)
        at += _TEXT.size
        if at + size > len(payload):
            raise IndexError(at)
        found.append(payload[at : at + size].decode(errors="surrogateescape"))
        at += size
    return found, at


def _table(payload: bytes, at: int) -> Table:
    return decode_table(payload, at + 4, len(payload))


def numbers_record(kind: int, numbers: Iterable[int]) -> bytes:
    packed = _pack(numbers)
    return NUMBERS_HEAD.pack(kind, len(packed) // NUMBER_SIZE) + packed


def counted_record(number: int, deliveries: int) -> bytes:
    return COUNTED_RECORD.pack(COUNTED, number, deliveries)


def purged_record(queue: int, bound: int, kept: Iterable[int]) -> bytes:
    packed = _pack(sorted(kept))
    return PURGED_HEAD.pack(PURGED, queue, bound, len(packed) // NUMBER_SIZE) + packed


def _pack(numbers: Iterable[int]) -> bytes:
    packed = array("Q", numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack(data: bytes) -> array[int]:
    """The entry numbers in `data`."""
    numbers = array("Q")
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


class Put(NamedTuple):
    """Where in a payload a record is that puts entries, and the entries; an item is one of no queue."""

    kind: int
    start: int
    content: int
    end: int
    entries: Entries

    def again(self, payload: bytes, entries: Entries) -> tuple[bytes, ...]:
        """The record with these entries only."""
        if self.kind != MESSAGE:
            return (payload[self.start : self.end],)
        _, _, route, properties, body, *_ = MESSAGE_HEAD.unpack_from(payload, self.start)
        number, queue, expires = entries[0]
        head = MESSAGE_HEAD.pack(MESSAGE, len(entries), route, properties, body, number, queue, expires)
        rest = b"".join(ENTRY.pack(*entry) for entry in entries[1:])
        return head, rest, payload[self.content : self.end]


def puts(payload: bytes) -> Iterator[Put]:
    """The records of a block that put entries. Raises BadRecordError."""
    at = 0
    try:
        while at < len(payload):
            kind, start = payload[at], at
            if kind == MESSAGE:
                _, count, route, properties, body, number, queue, expires = MESSAGE_HEAD.unpack_from(
                    payload, at
                )
                content = at + MESSAGE_HEAD.size + (count - 1) * ENTRY.size
                others = payload[at + MESSAGE_HEAD.size : content]
                at = content + route + properties + body
                yield Put(kind, start, content, at, [(number, queue, expires), *ENTRY.iter_unpack(others)])
            elif kind in ITEMS:
                _, number, size = ITEM_HEAD.unpack_from(payload, at)
                content = at + ITEM_HEAD.size
                at = content + size
                yield Put(kind, start, content, at, [(number, 0, 0.0)])
            else:
                at = skip(kind, payload, at)
    except error as exc:
        raise BadRecordError("a record runs past the end of its block") from exc


def skip(kind: int, payload: bytes, at: int) -> int:
    """The end of a record that puts nothing. Raises BadRecordError and struct.error."""
    if kind in (REMOVED, DELIVERED):
        return at + NUMBERS_HEAD.size + NUMBER_SIZE * int(NUMBERS_HEAD.unpack_from(payload, at)[1])
    if kind == PURGED:
        return at + PURGED_HEAD.size + NUMBER_SIZE * int(PURGED_HEAD.unpack_from(payload, at)[3])
    if kind == COUNTED:
        return at + COUNTED_RECORD.size
    if kind in (SEALED, OPENED, CLOSED):
        return at + 1
    raise BadRecordError(f"unknown record kind {kind}")

"""The choice of a destination by a hash, for exchanges of type x-consistent-hash. Pure.

Weighted rendezvous hashing: each destination draws a number in (0, 1) from the hash of itself and the
message's key, and the one with the lowest -ln(number) / weight gets the message. A destination wins a
part of the keys that is proportional to its weight. As no draw depends on the other destinations, adding
one moves to it only what it wins, and removing one moves only what it had.

The rules are those of RabbitMQ 3.10's plugin: the binding key is the weight, and further bindings of a
destination that is bound already change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from math import log
from typing import Generic, TypeVar

from msctl.broker.protocol.properties import CORRELATION_ID, MESSAGE_ID, TIMESTAMP, split
from msctl.broker.protocol.replies import erlang_binary, precondition_failed
from msctl.broker.protocol.tables import FieldValue, Table

HASH_HEADER = b"hash-header"
HASH_PROPERTY = b"hash-property"

_PROPERTIES = {b"correlation_id": CORRELATION_ID, b"message_id": MESSAGE_ID, b"timestamp": TIMESTAMP}
_MASK = (1 << 64) - 1

T = TypeVar("T")


class HashKey:
    """What of a message is hashed: its routing keys, a header, or a property."""

    def __init__(self, arguments: Table) -> None:
        self._header: bytes | None = _value(arguments, HASH_HEADER)
        self._property = _PROPERTIES.get(_value(arguments, HASH_PROPERTY) or b"")

    @property
    def reads_properties(self) -> bool:
        return self._property is not None

    def of(self, keys: Iterable[str], headers: Table, properties: bytes) -> bytes:
        """The bytes to hash; empty for a header or property that is absent."""
        if self._header is not None:
            field = headers.get(self._header)
            return b"" if field is None else repr(field).encode()
        if self._property is not None:
            return split(properties).get(self._property, b"") if properties else b""
        return "\0".join(keys).encode(errors="surrogateescape")


def _value(arguments: Table, name: bytes) -> bytes | None:
    field = arguments.get(name)
    return field[1] if field is not None and field[0] == "S" else None


def check_arguments(arguments: Table) -> None:
    """Raises AmqpError 406 for invalid arguments of an exchange."""
    for name in (HASH_HEADER, HASH_PROPERTY):
        field: FieldValue | None = arguments.get(name)
        if field is not None and field[0] != "S":
            raise precondition_failed(f"{name.decode()} must be a string")
    if HASH_HEADER in arguments and HASH_PROPERTY in arguments:
        raise precondition_failed("hash-header and hash-property are mutually exclusive")
    wanted = _value(arguments, HASH_PROPERTY)
    if wanted is not None and wanted not in _PROPERTIES:
        raise precondition_failed(f"Unsupported property: {wanted.decode(errors='replace')}")


def weight_of(binding_key: str) -> int:
    """The weight that a binding key states. Raises AmqpError 406."""
    digits = binding_key.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        raw = binding_key.encode(errors="surrogateescape")
        raise precondition_failed(f"The binding key must be an integer: {erlang_binary(raw)}")
    weight = int(binding_key)
    if weight <= 0:
        raise precondition_failed("The binding key must be greater than 0")
    return weight


class HashRing(Generic[T]):
    """Destinations with their weights and names."""

    __slots__ = ("_members",)

    def __init__(self, members: Iterable[tuple[T, str, int]]) -> None:
        """Each member is a destination, a name that identifies it, and its weight."""
        self._members = [
            (member, _hash(name.encode(errors="surrogateescape")), weight) for member, name, weight in members
        ]

    def choose(self, key: bytes) -> T | None:
        """The destination of a key; None without destinations."""
        best: T | None = None
        lowest = float("inf")
        seed = _hash(key)
        for member, own, weight in self._members:
            cost = -log((_mix(seed ^ own) + 1) / (_MASK + 2)) / weight
            if cost < lowest:
                lowest, best = cost, member
        return best


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def _mix(value: int) -> int:
    """A finalizer that spreads every bit of 64 over all of them (splitmix64)."""
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
    return value ^ value >> 31

"""What the core tells a log of durable things. Pure.

A broker without a log has no journal: everything is in memory, and nothing here is called. Each stored
thing has an entry number, 0 meaning "not stored". A message is stored once for each durable queue that
keeps it; the number is the last item of its tuple.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from msctl.broker.core.messages import Message
from msctl.broker.protocol.tables import Table


@dataclass(frozen=True, slots=True)
class StoredDelay:
    """A persistent message that waits in a durable exchange; `due` is in epoch seconds."""

    vhost: str
    exchange: str
    due: float
    delay: int
    keys: tuple[str, ...]
    route: bytes
    properties: bytes
    body: bytes
    ttl_ms: int | None
    priority: int


Entries = list[tuple[int, int, float]]
"""The entries of a message: its number, its queue's number, when it expires (epoch seconds, 0: never)."""


class Journal(Protocol):
    """A log of what must outlive the broker. All methods return at once; what they record is safe as soon as
    `durable` reaches the position that `recorded` tells."""

    durable: int

    def recorded(self) -> int:
        """The position at which all that has been recorded is safe."""
        ...

    def put_queue(self, vhost: str, name: str, *, auto_delete: bool, arguments: Table) -> int:
        """Record a durable queue; return its number."""
        ...

    def put_exchange(
        self, vhost: str, name: str, kind: str, *, auto_delete: bool, internal: bool, arguments: Table
    ) -> int:
        """Record a durable exchange; return its number."""
        ...

    def put_binding(
        self, vhost: str, source: str, destination: str, kind: str, key: str, arguments: Table
    ) -> int:
        """Record a binding between durable ends; return its number."""
        ...

    def put_delayed(self, message: StoredDelay) -> int:
        """Record a message that an exchange delays; return its number."""
        ...

    def put_meta(self, kind: str, key: str, document: bytes) -> int:
        """Record an item that the log does not look into; return its number."""
        ...

    def drop(self, number: int) -> None:
        """Remove a queue with all its messages, an exchange, a binding, a delayed message or an item."""
        ...

    def enter(self, queue: int, expires: float | None, entries: Entries) -> int:
        """Add an entry for a message in `queue`, to be stored next; return its number.

        `expires` is monotonic.
        """
        ...

    def store(self, route: bytes, properties: bytes, body: bytes, entries: Entries) -> None:
        """Record a message with its entries."""
        ...

    def remove(self, message: Message) -> None:
        """Record that a message has left its queue for good."""
        ...

    def count(self, number: int, deliveries: int) -> None:
        """Record how often a message in a quorum queue has been delivered."""
        ...

    def purge(self, queue: int, kept: set[int]) -> None:
        """Record that a queue has lost all its messages but `kept`; `forget` follows for each."""
        ...

    def forget(self, message: Message) -> None:
        """Stop counting a message whose removal is recorded."""
        ...

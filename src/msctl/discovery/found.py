"""The instances that others announce, from listings and changes of a registry. Pure.

A registry that was away may come back empty or behind the times, before the stacks have registered again. So
what the first listing of a new session lacks is kept for one more TTL; what is removed later is gone at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from msctl.discovery.record import BadRecordError, Record

MAX_INSTANCES = 1000
"""The most instances of one service that are used."""
MAX_RECORDS = 10_000
"""The most records of a namespace that are kept; more are left out."""
MAX_WARNED = 1000

Read = Callable[[], Record]
"""Returns a record, or raises BadRecordError."""


@dataclass(slots=True)
class Found:
    """What is known of a namespace. `own` is the stack's own name, whose records are left out."""

    own: str
    ttl: float
    warn: Callable[[str], None]
    _records: dict[str, Record] = field(default_factory=dict)
    _missing: dict[str, float] = field(default_factory=dict)
    """The records that a new session did not list, and until when they are kept."""
    _warned: set[tuple[str, str]] = field(default_factory=set)

    def listed(self, service: str | None, entries: Mapping[str, Read], now: float, *, resumed: bool) -> None:
        """Take a complete listing, of one service or of all; `resumed` says that it begins a session."""
        gone = [
            key
            for key, record in self._records.items()
            if key not in entries and service in (None, record.service)
        ]
        for key in gone:
            if resumed:
                self._missing.setdefault(key, now + self.ttl)
            elif key not in self._missing:
                self.removed(key)
        for key, read in entries.items():
            self.put(key, read)

    def put(self, key: str, read: Read) -> None:
        """Take a new or changed record; one that cannot be used counts as removed, with one warning."""
        self._missing.pop(key, None)
        try:
            record = read()
        except BadRecordError as error:
            self._records.pop(key, None)
            if (key, str(error)) not in self._warned and len(self._warned) < MAX_WARNED:
                self._warned.add((key, str(error)))
                self.warn(f"ignoring the record {key[:200]!r} in the registry: {error}")
            return
        if record.stack and record.stack == self.own:
            self._records.pop(key, None)
            return
        if key in self._records or len(self._records) < MAX_RECORDS:
            self._records[key] = record

    def removed(self, key: str) -> None:
        """Forget a record."""
        self._records.pop(key, None)
        self._missing.pop(key, None)

    def expire(self, now: float) -> None:
        """Forget what a new session has not listed for a TTL."""
        for key in [key for key, until in self._missing.items() if until <= now]:
            self.removed(key)

    def records(self, services: Collection[str]) -> dict[str, tuple[Record, ...]]:
        """The records of each of these services, in the order of their addresses."""
        grouped: dict[str, list[Record]] = {service: [] for service in services}
        for key in sorted(self._records):
            record = self._records[key]
            if record.service in grouped and len(grouped[record.service]) < MAX_INSTANCES:
                grouped[record.service].append(record)
        return {service: tuple(records) for service, records in grouped.items()}

"""All bindings of a virtual host, by destination; removes those of what was deleted, in bounded steps. Pure.

A queue or an exchange that is deleted loses its bindings at once: they are not followed, shown or counted.
Up to AT_ONCE are removed on the spot. The others stay in the indexes, recognizable by their end that is
`deleted`, until `remove_more` has removed them. After a crash in between, the log has bindings that are
older than the present holder of one of their names, or whose holder is gone: `storage.restore` drops them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msctl.broker.core.exchanges import Binding, Exchange, Identity
from msctl.broker.core.memory import MemoryAccount
from msctl.broker.core.queues import Queue

Destination = Exchange | Queue
AT_ONCE = 500

_Group = dict[Identity, Binding]


class BindingTable:
    """The bindings. `later` is called when there is work for `remove_more`."""

    def __init__(self, memory: MemoryAccount, later: Callable[[], None]) -> None:
        self.count = 0
        """How many there are, without those of deleted ends."""
        self._memory = memory
        self._later = later
        self._inbound: dict[Destination, dict[Exchange, _Group]] = {}
        self._removing: list[Exchange | _Group] = []

    def add(self, binding: Binding) -> bool:
        """Add a binding; return False if it exists."""
        source = binding.source
        if not source.bind(binding):
            return False
        self.count += 1
        groups = self._inbound.get(binding.destination)
        if groups is None:
            groups = self._inbound[binding.destination] = {}
        group = groups.get(source)
        if group is None:
            group = groups[source] = {}
        group[binding.identity] = binding
        return True

    def remove(self, source: Exchange, identity: Identity) -> None:
        binding = source.unbind(identity)
        if binding is not None:
            self.count -= 1
            self._forget(binding)

    def leading_to(self, destination: Destination) -> Iterable[Binding]:
        """The bindings of a queue or an exchange. Invalid once a binding changes."""
        groups = self._inbound.get(destination, {})
        return (each for source, group in groups.items() if not source.deleted for each in group.values())

    def between(self, source: Exchange, destination: Destination) -> Iterable[Binding]:
        """The bindings from `source` to `destination`. Invalid once a binding changes."""
        return self._inbound.get(destination, {}).get(source, {}).values()

    def destination_deleted(self, destination: Destination) -> list[Exchange]:
        """Remove the bindings that lead to it; return the exchanges from which they led."""
        groups = self._inbound.pop(destination, {})
        live = {source: group for source, group in groups.items() if not source.deleted}
        for source, group in live.items():
            self.count -= len(group)
            source.made_stale(len(group))
            self._remove_all(group, len(group))
        return list(live)

    def source_deleted(self, source: Exchange) -> None:
        """Remove the bindings of an exchange that is `deleted`."""
        self.count -= len(source.bindings) - source.stale
        self._remove_all(source, len(source.bindings))

    def _remove_all(self, holder: Exchange | _Group, count: int) -> None:
        if count == 0:
            return
        self._removing.append(holder)
        if count <= AT_ONCE and len(self._removing) == 1:
            self.remove_more(count)
        else:
            self._later()

    def remove_more(self, limit: int) -> bool:
        """Remove up to `limit` bindings of what was deleted; return whether there are more."""
        while self._removing and limit > 0:
            holder = self._removing[-1]
            left: _Group
            if isinstance(holder, Exchange):
                left = holder.bindings
                if left:
                    self._forget(holder.unbind_last())
            else:
                left = holder
                if left:
                    identity, binding = left.popitem()
                    if binding.source.unbind(identity) is not None:
                        binding.source.stale -= 1
                        self._drop(binding)
            limit -= 1
            if not left:
                self._removing.pop()
        return bool(self._removing)

    def _forget(self, binding: Binding) -> None:
        self._drop(binding)
        groups = self._inbound.get(binding.destination)
        group = None if groups is None else groups.get(binding.source)
        if groups is None or group is None:
            return
        group.pop(binding.identity, None)
        if not group:
            del groups[binding.source]
            if not groups:
                del self._inbound[binding.destination]

    def _drop(self, binding: Binding) -> None:
        journal = self._memory.journal
        if binding.entry and journal is not None:
            journal.drop(binding.entry)

"""Brings the instances that other machines announce into the stack's own registry."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from msctl.clock import Clock
from msctl.discovery.found import Found, Read
from msctl.discovery.record import Record
from msctl.discovery.registry import Registry
from msctl.model.address import is_loopback
from msctl.model.project import Project
from msctl.model.registry_url import RegistryUrl

log = logging.getLogger("msctl.discovery")


class Finder:
    """The instances in use. A Watcher of the registry at `url`; `changed` is called when they change."""

    def __init__(
        self,
        project: Project,
        url: RegistryUrl,
        registry: Registry,
        *,
        stack: str,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self._project = project
        self._url = url
        self._registry = registry
        self._clock = clock
        self._changed = changed
        self._found = Found(stack, project.discovery.ttl, log.warning)
        self._used: dict[str, Record] = {}
        self._stopped: frozenset[str] = frozenset()
        self._unreachable: set[str] = set()
        """The records that were warned of because of their address."""
        self.address: str | None = None
        """The address under which this machine is known to others."""
        self.has_listed = False
        """Whether the registry has said at least once what there is."""

    @property
    def services(self) -> frozenset[str]:
        """The services whose instances on other machines are asked for."""
        return frozenset(spec.name for spec in self._project.services if spec.discover)

    @property
    def count(self) -> int:
        return len(self._used)

    def records(self, service: str) -> tuple[Record, ...]:
        """The instances of a service on other machines."""
        return tuple(record for record in self._used.values() if record.service == service)

    def reconfigure(self, project: Project) -> bool:
        """Find what `project` says from now on; return whether that concerns other services."""
        before, self._project = self.services, project
        self._use()
        return self.services != before

    def use(self, service: str, *, wanted: bool) -> None:
        """Let the instances of a service take requests, or none of them."""
        self._stopped = self._stopped - {service} if wanted else self._stopped | {service}
        self._use()

    def expire(self) -> None:
        """Forget what a registry that was away has not listed again."""
        self._found.expire(self._clock.monotonic())
        self._use()

    def listed(self, service: str | None, entries: Mapping[str, Read], *, resumed: bool) -> None:
        self._found.listed(service, entries, self._clock.monotonic(), resumed=resumed)
        self.has_listed = True
        self._use()
        self._changed()

    def put(self, key: str, read: Read) -> None:
        self._found.put(key, read)
        self._use()

    def removed(self, key: str) -> None:
        self._found.removed(key)
        self._use()

    def _use(self) -> None:
        """Bring the stack's registry to what was found."""
        wanted = {
            record.key: record
            for records in self._found.records(self.services - self._stopped).values()
            for record in records
            if self._can_reach(record)
        }
        if wanted == self._used:
            return
        before, self._used = self._used, wanted
        for key, record in before.items():
            if key not in wanted or wanted[key].name != record.name:
                reason = f"has no instance: none is registered in {self._url.shown}"
                self._registry.withdraw(record.service, record.name, reason)
        for key, record in wanted.items():
            if before.get(key) != record:
                self._registry.announce(record.endpoint(self._url.kind.value))
        self._changed()

    def _can_reach(self, record: Record) -> bool:
        """Whether an address means the same machine here as there: loopback is each machine's own."""
        if not is_loopback(record.host) or is_loopback(self.address or ""):
            return True
        if record.key not in self._unreachable:
            self._unreachable.add(record.key)
            log.warning("ignoring %s in the registry: no other machine reaches that address", record.key)
        return False

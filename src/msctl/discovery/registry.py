"""The registry of instances that can take requests: the supervisor writes it, the gateway reads it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace

from msctl.model.endpoint import Endpoint

Drained = Callable[[str, str], Awaitable[None]]
"""Waits until a user of the registry has finished with a withdrawn instance of a service."""


class Registry:
    """The endpoints of each service, and the reason if there are none."""

    def __init__(self) -> None:
        self._endpoints: dict[str, tuple[Endpoint, ...]] = {}
        self._absences: dict[str, str] = {}
        self._lives = itertools.count(1)
        self._users: list[Drained] = []
        self._watchers: list[Callable[[], None]] = []

    def announce(self, endpoint: Endpoint) -> None:
        """Add an instance, or replace the one of the same name; each of its addresses is one of its own.

        What is announced begins a life: nothing that was learned of an earlier one holds for it.
        """
        found = endpoint.split()
        known = self.endpoints(endpoint.service)
        same = tuple(replace(e, life=0) for e in known if e.is_of(endpoint.instance))
        if endpoint.addresses is not None and same == found:
            return  # nothing has moved
        others = (e for e in known if not e.is_of(endpoint.instance))
        life = next(self._lives)
        self._endpoints[endpoint.service] = (*others, *(replace(one, life=life) for one in found))
        self._tell()

    def withdraw(self, service: str, instance: str, reason: str) -> None:
        """Remove an instance; `reason` ("is stopped") completes a sentence about the service."""
        left = tuple(e for e in self.endpoints(service) if not e.is_of(instance))
        self._endpoints[service] = left
        self._absences[service] = reason
        self._tell()

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called after every change."""
        self._watchers.append(changed)

    def follow(self, drained: Drained) -> None:
        """Have `drained` awaited before a withdrawn instance is stopped; see `drained`."""
        self._users.append(drained)

    async def drained(self, service: str, instance: str) -> None:
        """Wait until nobody uses a withdrawn instance any more."""
        await asyncio.gather(*(drained(service, instance) for drained in self._users))

    def endpoints(self, service: str) -> tuple[Endpoint, ...]:
        """Return the endpoints of `service`: the same tuple until they change."""
        return self._endpoints.get(service, ())

    def absence(self, service: str) -> str:
        """Return why `service` has no endpoint, as the end of a sentence: "is stopped"."""
        return self._absences.get(service, "is not started")

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()

"""Registers what is ready in this stack, and withdraws it before it stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from msctl.aio import first_of
from msctl.clock import AsyncClock
from msctl.discovery.announcement import announcement
from msctl.discovery.backend import Backend
from msctl.discovery.record import Record
from msctl.discovery.registry import Registry
from msctl.model.project import Project

WITHDRAW_S = 2.0
"""Seconds that the stop of an instance waits at most for the registry to forget it."""
SPREAD_S = 0.1
"""Seconds that the other machines have to take notice before the instance stops."""

log = logging.getLogger("msctl.discovery")


class Announcer:
    """What a stack has registered in the present session; `stack` names this run among others."""

    def __init__(
        self, project: Project, registry: Registry, backend: Backend, *, stack: str, clock: AsyncClock
    ) -> None:
        self._project = project
        self._registry = registry
        self._backend = backend
        self._stack = stack
        self._clock = clock
        self._registered: dict[str, Record] = {}
        self._in_session = False
        self._leaving = False
        self._dirty = asyncio.Event()
        self._moved = asyncio.Event()
        self.problems: Mapping[str, str] = {}
        """Why a service that is ready is not announced."""
        registry.watch(self._dirty.set)
        registry.follow(self._withdrawn)

    @property
    def instances(self) -> tuple[str, ...]:
        """The names of the registered instances."""
        return tuple(record.instance for _, record in sorted(self._registered.items()))

    def reconfigure(self, project: Project) -> None:
        """Announce what `project` says from now on."""
        self._project = project
        self._dirty.set()

    async def run(self, advertise: str) -> None:
        """Keep the registry up to date, until an error: the session's part."""
        self._in_session = True
        try:
            while True:
                self._dirty.clear()
                await self._update(self._wanted(advertise))
                self._moved.set()
                await self._dirty.wait()
        finally:
            self._in_session = False
            self._registered.clear()
            self._moved.set()

    async def leave(self) -> None:
        """Withdraw everything, and announce nothing more."""
        self._leaving = True
        self._dirty.set()
        await self._wait_withdrawn(lambda _record: True)

    async def _update(self, wanted: Mapping[str, Record]) -> None:
        for key in [key for key in self._registered if key not in wanted]:
            await self._backend.withdraw(self._registered[key])
            self._registered.pop(key, None)
        for key, record in wanted.items():
            if self._registered.get(key) != record:
                # Before the answer: an instance that stops meanwhile must wait for its withdrawal.
                self._registered[key] = record
                await self._backend.register(record)

    def _wanted(self, advertise: str) -> Mapping[str, Record]:
        if self._leaving:
            return {}
        found = announcement(self._project, self._registry.endpoints, advertise=advertise, stack=self._stack)
        for service, why in found.problems.items():
            if self.problems.get(service) != why:
                log.warning("%s is not announced: %s", service, why)
        self.problems = found.problems
        return found.records

    async def _withdrawn(self, service: str, instance: str) -> None:
        """Wait until other machines know that an instance takes no requests any more."""
        await self._wait_withdrawn(lambda record: (record.service, record.instance) == (service, instance))

    async def _wait_withdrawn(self, concerns: Callable[[Record], bool]) -> None:
        if any(map(concerns, self._registered.values())):
            await first_of(self._gone(concerns), self._clock.sleep(WITHDRAW_S))

    async def _gone(self, concerns: Callable[[Record], bool]) -> None:
        while self._in_session and any(map(concerns, self._registered.values())):
            self._moved.clear()
            await self._moved.wait()
        await self._clock.sleep(SPREAD_S)

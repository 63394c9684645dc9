"""A stack's part in a registry: announces its own instances there, and takes in those of other machines.

One session after the other: begin it, then keep it alive, register what changes here and watch what changes
there, side by side, until one of them fails. A session that has failed is followed by another after a pause
that grows; what is registered lives on at the registry for its TTL, and what was found stays in use.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Mapping
from typing import Protocol

from msctl.aio import first_of
from msctl.backoff import Backoff
from msctl.clock import AsyncClock
from msctl.discovery.announcing import announcement
from msctl.discovery.backend import Backend, SessionLostError
from msctl.discovery.found import Found, Read
from msctl.discovery.record import Record
from msctl.discovery.registry import Registry
from msctl.discovery.registry_http import RegistryError
from msctl.model.address import is_loopback
from msctl.model.project import Project
from msctl.model.registry_url import RegistryUrl
from msctl.model.snapshots import RegistrySnapshot, State

BEATS = 3
"""How often in a TTL a stack tells that it is alive."""
WITHDRAW_S = 2.0
"""Seconds that the stop of an instance waits at most for the registry to forget it."""
SPREAD_S = 0.1
"""Seconds that the other machines have to take notice before the instance stops."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0

log = logging.getLogger("msctl.discovery")


class Discovered(Protocol):
    """The instances of services on other machines."""

    @property
    def asked(self) -> bool:
        """Whether the registry has answered, or failed to, at least once."""
        ...

    def absence(self, service: str) -> str | None:
        """Why there is no instance of a service; None if there is one."""
        ...

    async def change(self) -> None:
        """Return at the next change of what was found, or of the state of the registry."""
        ...

    def use(self, service: str, *, wanted: bool) -> None:
        """Let the instances of a service take requests, or none of them; at the start they do."""
        ...


class Discovery:
    """Keeps `registry`, the stack's own, and the one at `url` in step."""

    def __init__(
        self,
        project: Project,
        url: RegistryUrl,
        backend: Backend,
        registry: Registry,
        *,
        stack: str,
        clock: AsyncClock,
        announces: bool = True,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`stack` names this run among others; without `announces` it takes in and announces nothing."""
        spec = project.discovery
        self._project = project
        self._url = url
        self._backend = backend
        self._registry = registry
        self._clock = clock
        self._stack = stack
        self._announces = announces
        self._ttl = spec.ttl
        self._namespace = spec.namespace or project.name
        self._advertise = spec.advertise
        self._told_address: str | None = None
        self._found = Found(stack, spec.ttl, log.warning)
        self._used: dict[str, Record] = {}
        """The records whose instances are in the stack's registry."""
        self._registered: dict[str, Record] = {}
        self._problems: Mapping[str, str] = {}
        self._state = State.STARTING
        self._reason = ""
        self._away_since: float | None = None
        self._listed = False
        self._unwanted: frozenset[str] = frozenset()
        self._unreachable: set[str] = set()
        """The records that were warned of because of their address."""
        self._backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S, rand=chance)
        self._dirty = asyncio.Event()
        self._moved = asyncio.Event()
        self._again = asyncio.Event()
        self._waiters: set[asyncio.Future[None]] = set()
        self._leaving = False
        self._task: asyncio.Task[None] | None = None
        registry.watch(self._dirty.set)
        registry.follow(self._withdrawn)

    # --- its life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; a registry that is away is tried again and again."""
        self._task = asyncio.create_task(self._run(), name="discovery")

    async def leave(self) -> None:
        """Withdraw everything that was announced, and announce nothing more."""
        self._leaving = True
        self._dirty.set()
        await self._withdrawal(lambda _record: True)

    async def stop(self) -> None:
        """End the session."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._state is State.READY:
            await first_of(self._ended(), self._clock.sleep(WITHDRAW_S))
        await self._backend.close()

    async def _ended(self) -> None:
        try:
            await self._backend.leave()
        except (RegistryError, SessionLostError) as error:
            log.info("%s %s", self._url.shown, error)

    def reconfigure(self, project: Project) -> None:
        """Announce and find what `project` says from now on."""
        watched = self._services
        self._project = project
        self._dirty.set()
        if self._services != watched:
            self._use()
            self._again.set()

    # --- what others see ----------------------------------------------------------------------------

    def snapshot(self) -> RegistrySnapshot:
        return RegistrySnapshot(
            kind=self._url.kind.value,
            state=self._state,
            url=self._url.shown,
            namespace=self._namespace,
            reason="; ".join(self._reasons()),
            advertise=self._address,
            announced=tuple(record.instance for _, record in sorted(self._registered.items())),
            found=len(self._used),
        )

    def use(self, service: str, *, wanted: bool) -> None:
        self._unwanted = self._unwanted - {service} if wanted else self._unwanted | {service}
        self._use()

    @property
    def origin(self) -> str:
        return self._url.kind.value

    def records(self, service: str) -> tuple[Record, ...]:
        """The instances of a service on other machines."""
        return tuple(record for record in self._used.values() if record.service == service)

    def absence(self, service: str) -> str | None:
        if any(record.service == service for record in self._used.values()):
            return None
        if self._state is State.READY and self._listed:
            return f"no instance is registered in {self._url.shown}, namespace {self._namespace}"
        return f"{self._url.shown} {self._reason}" if self._reason else f"asking {self._url.shown}"

    @property
    def asked(self) -> bool:
        return self._listed or self._away_since is not None

    async def change(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiters.add(future)
        try:
            await future
        finally:
            self._waiters.discard(future)

    def _reasons(self) -> list[str]:
        said = []
        if self._away_since is not None:
            away = self._clock.monotonic() - self._away_since
            kept = f"; the last known instances ({len(self._used)}) stay in use" if self._used else ""
            said.append(f"away for {away:.0f} s: it {self._reason}{kept}")
        said += [f"{service} is not announced: {why}" for service, why in sorted(self._problems.items())]
        return said

    # --- sessions -------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            began = self._clock.monotonic()
            pause = 0.0
            try:
                await self._session()
            except SessionLostError as error:
                log.warning(
                    "%s has lost this stack's registration (%s); registering again", self._url.shown, error
                )
                if self._clock.monotonic() - began < self._ttl / BEATS:
                    pause = self._backoff.next()
            except RegistryError as error:
                self._be_away(str(error))
                pause = self._backoff.next()
            except Exception as error:  # what a registry answers must not end the stack's part in it
                log.exception("the session with %s failed", self._url.shown)
                self._be_away(f"is not understood: {error!r}")
                pause = self._backoff.next()
            if self._clock.monotonic() - began > self._ttl:
                self._backoff.reset()
            self._registered.clear()
            if pause:
                self._tell()
            await self._clock.sleep(pause or FIRST_PAUSE_S / BEATS)

    async def _session(self) -> None:
        told = await self._backend.open()
        if self._advertise is None:
            self._told_address = told or await _own_address(self._url)
        self._be_ready()
        self._again.clear()
        steps = await first_of(
            self._keep(),
            self._announce(),
            self._backend.watch(self._services, self),
            self._expire(),
            self._again.wait(),
        )
        for step in steps:
            if not step.cancelled():
                step.result()

    async def _keep(self) -> None:
        while True:
            await self._clock.sleep(self._ttl / BEATS)
            await self._backend.keep()

    async def _announce(self) -> None:
        """Register what is ready here, and withdraw what is not any more."""
        while True:
            self._dirty.clear()
            wanted = self._wanted()
            for key in [key for key in self._registered if key not in wanted]:
                await self._backend.withdraw(self._registered[key])
                self._registered.pop(key, None)
            for key, record in wanted.items():
                if self._registered.get(key) != record:
                    await self._backend.register(record)
                    self._registered[key] = record
            self._moved.set()
            await self._dirty.wait()

    def _wanted(self) -> Mapping[str, Record]:
        if self._leaving or not self._announces:
            return {}
        found = announcement(
            self._project, self._registry.endpoints, advertise=self._address or "", stack=self._stack
        )
        for service, why in found.problems.items():
            if self._problems.get(service) != why:
                log.warning("%s is not announced: %s", service, why)
        self._problems = found.problems
        return found.records

    async def _withdrawn(self, service: str, instance: str) -> None:
        """Wait until other machines know that an instance takes no requests any more."""
        await self._withdrawal(lambda record: (record.service, record.instance) == (service, instance))

    async def _withdrawal(self, concerns: Callable[[Record], bool]) -> None:
        if self._state is State.READY and any(map(concerns, self._registered.values())):
            await first_of(self._gone(concerns), self._clock.sleep(WITHDRAW_S))

    async def _gone(self, concerns: Callable[[Record], bool]) -> None:
        while self._state is State.READY and any(map(concerns, self._registered.values())):
            self._moved.clear()
            await self._moved.wait()
        await self._clock.sleep(SPREAD_S)

    # --- what the registry says (Watcher) -----------------------------------------------------------------

    def listed(self, service: str | None, entries: Mapping[str, Read], *, resumed: bool) -> None:
        self._found.listed(service, entries, self._clock.monotonic(), resumed=resumed)
        self._listed = True
        self._use()
        self._tell()

    def put(self, key: str, read: Read) -> None:
        self._found.put(key, read)
        self._use()

    def removed(self, key: str) -> None:
        self._found.removed(key)
        self._use()

    async def _expire(self) -> None:
        while True:
            await self._clock.sleep(self._ttl / BEATS)
            self._found.expire(self._clock.monotonic())
            self._use()

    def _use(self) -> None:
        """Bring the stack's registry to what was found."""
        services = self._taken
        wanted = {
            record.key: record
            for records in self._found.records(services).values()
            for record in records
            if self._can_reach(record)
        }
        if wanted == self._used:
            return
        before, self._used = self._used, wanted
        for key, record in before.items():
            if key not in wanted or _name(wanted[key]) != _name(record):
                reason = f"has no instance: none is registered in {self._url.shown}"
                self._registry.withdraw(record.service, _name(record), reason)
        for key, record in wanted.items():
            if before.get(key) != record:
                self._registry.announce(record.endpoint(self.origin))
        self._tell()

    def _can_reach(self, record: Record) -> bool:
        """Whether an address means the same machine here as there: loopback is each machine's own."""
        if not is_loopback(record.host) or is_loopback(self._address or ""):
            return True
        if record.key not in self._unreachable:
            self._unreachable.add(record.key)
            log.warning("ignoring %s in the registry: no other machine reaches that address", record.key)
        return False

    @property
    def _services(self) -> frozenset[str]:
        return frozenset(spec.name for spec in self._project.services if spec.discover)

    @property
    def _taken(self) -> frozenset[str]:
        return self._services - self._unwanted

    @property
    def _address(self) -> str | None:
        return self._advertise or self._told_address

    def _be_ready(self) -> None:
        if self._away_since is not None:
            log.info("%s is back", self._url.shown)
        self._state, self._reason, self._away_since = State.READY, "", None

    def _be_away(self, reason: str) -> None:
        if self._away_since is None:
            self._away_since = self._clock.monotonic()
            kept = "; the last known instances stay in use" if self._used else ""
            log.warning("%s %s; trying again%s", self._url.shown, reason, kept)
        self._state, self._reason = State.BACKOFF, reason
        self._moved.set()

    def _tell(self) -> None:
        for future in self._waiters:
            if not future.done():
                future.set_result(None)


def _name(record: Record) -> str:
    return f"{record.instance}@{record.address}"


async def _own_address(url: RegistryUrl) -> str:
    """The address of the interface that reaches the registry; raises RegistryError."""
    loop = asyncio.get_running_loop()
    reason = "has no address"
    for address in url.addresses:
        try:
            for family, kind, protocol, _, target in await loop.getaddrinfo(
                address.host, address.port, type=socket.SOCK_DGRAM
            ):
                with socket.socket(family, kind, protocol) as sock:
                    sock.connect(target)  # of a datagram socket: nothing is sent
                    return str(sock.getsockname()[0]).partition("%")[0]
        except OSError as error:
            reason = f"cannot be reached: {error.strerror or error}"
    raise RegistryError(reason)

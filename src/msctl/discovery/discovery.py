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
from collections.abc import Callable
from typing import Protocol

from msctl.aio import first_of
from msctl.backoff import Backoff
from msctl.clock import AsyncClock
from msctl.discovery.announcer import WITHDRAW_S, Announcer
from msctl.discovery.backend import Backend, SessionLostError
from msctl.discovery.finder import Finder
from msctl.discovery.record import Record
from msctl.discovery.registry import Registry
from msctl.discovery.registry_http import RegistryError
from msctl.model.project import Project
from msctl.model.registry_url import RegistryUrl
from msctl.model.snapshots import RegistrySnapshot, State

BEATS = 3
"""How often in a TTL a stack tells that it is alive."""
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
        self._url = url
        self._backend = backend
        self._clock = clock
        self._spec = project.discovery
        self._namespace = self._spec.namespace or project.name
        self._finder = Finder(project, url, registry, stack=stack, clock=clock, changed=self._tell)
        self._announcer = (
            Announcer(project, registry, backend, stack=stack, clock=clock) if announces else None
        )
        self._state = State.STARTING
        self._reason = ""
        self._away_since: float | None = None
        self._backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S, rand=chance)
        self._again = asyncio.Event()
        self._waiters: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None

    # --- its life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; a registry that is away is tried again and again."""
        self._task = asyncio.create_task(self._run(), name="discovery")

    async def leave(self) -> None:
        """Withdraw everything that was announced, and announce nothing more."""
        if self._announcer is not None:
            await self._announcer.leave()

    async def stop(self) -> None:
        """End the session."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._state is State.READY:
            await first_of(self._end(), self._clock.sleep(WITHDRAW_S))
        await self._backend.close()

    async def _end(self) -> None:
        try:
            await self._backend.leave()
        except (RegistryError, SessionLostError) as error:
            log.info("%s %s", self._url.shown, error)

    def reconfigure(self, project: Project) -> None:
        """Announce and find what `project` says from now on."""
        if self._announcer is not None:
            self._announcer.reconfigure(project)
        if self._finder.reconfigure(project):
            self._again.set()

    # --- what others see ----------------------------------------------------------------------------

    def snapshot(self) -> RegistrySnapshot:
        return RegistrySnapshot(
            kind=self._url.kind.value,
            state=self._state,
            url=self._url.shown,
            namespace=self._namespace,
            reason="; ".join(self._reasons()),
            advertise=self._finder.address,
            announced=() if self._announcer is None else self._announcer.instances,
            found=self._finder.count,
        )

    @property
    def origin(self) -> str:
        return self._url.kind.value

    def records(self, service: str) -> tuple[Record, ...]:
        """The instances of a service on other machines."""
        return self._finder.records(service)

    @property
    def asked(self) -> bool:
        return self._finder.has_listed or self._away_since is not None

    def absence(self, service: str) -> str | None:
        if self._finder.records(service):
            return None
        if self._state is State.READY and self._finder.has_listed:
            return f"no instance is registered in {self._url.shown}, namespace {self._namespace}"
        return f"{self._url.shown} {self._reason}" if self._reason else f"asking {self._url.shown}"

    def use(self, service: str, *, wanted: bool) -> None:
        self._finder.use(service, wanted=wanted)

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
            count = self._finder.count
            kept = f"; the last known instances ({count}) stay in use" if count else ""
            said.append(f"away for {away:.0f} s: it {self._reason}{kept}")
        if self._announcer is not None:
            problems = sorted(self._announcer.problems.items())
            said += [f"{service} is not announced: {why}" for service, why in problems]
        return said

    # --- sessions -------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            began = self._clock.monotonic()
            pause = FIRST_PAUSE_S / BEATS
            try:
                await self._session()
            except SessionLostError as error:
                log.warning("%s: %s; registering again", self._url.shown, error)
                if self._clock.monotonic() - began < self._spec.ttl / BEATS:
                    pause = self._backoff.next()
            except RegistryError as error:
                pause = self._be_away(str(error))
            except Exception as error:  # what a registry answers must not end the stack's part in it
                log.exception("the session with %s failed", self._url.shown)
                pause = self._be_away(f"is not understood: {error!r}")
            if self._clock.monotonic() - began > self._spec.ttl:
                self._backoff.reset()
            await self._clock.sleep(pause)

    async def _session(self) -> None:
        told = await self._backend.open()
        address = self._spec.advertise or told or await _own_address(self._url)
        self._finder.address = address
        self._be_ready()
        self._again.clear()
        parts = [
            self._keep(),
            self._backend.watch(self._finder.services, self._finder),
            self._expire(),
            self._again.wait(),
        ]
        if self._announcer is not None:
            parts.append(self._announcer.run(address))
        for part in await first_of(*parts):
            if not part.cancelled():
                part.result()

    async def _keep(self) -> None:
        while True:
            await self._clock.sleep(self._spec.ttl / BEATS)
            await self._backend.keep()

    async def _expire(self) -> None:
        while True:
            await self._clock.sleep(self._spec.ttl / BEATS)
            self._finder.expire()

    def _be_ready(self) -> None:
        if self._away_since is not None:
            log.info("%s is back", self._url.shown)
        self._state, self._reason, self._away_since = State.READY, "", None

    def _be_away(self, reason: str) -> float:
        """Say so, the first time; return how long to wait."""
        if self._away_since is None:
            self._away_since = self._clock.monotonic()
            kept = "; the last known instances stay in use" if self._finder.count else ""
            log.warning("%s %s; trying again%s", self._url.shown, reason, kept)
        self._state, self._reason = State.BACKOFF, reason
        self._tell()
        return self._backoff.next()

    def _tell(self) -> None:
        for future in self._waiters:
            if not future.done():
                future.set_result(None)


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

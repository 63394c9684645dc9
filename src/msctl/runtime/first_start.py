"""The start of a stack, for those who use the stack before it has ended.

The control socket answers before anything else is done. Until the broker has started, a service that is
about to start counts as waiting, and verbs that act on services wait for that moment. If the start fails
before it, they raise its error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from msctl.errors import MsctlError
from msctl.model.snapshots import BrokerSnapshot, Kind, ServiceSnapshot, State

REASON = "waiting on the broker"
FAILED = frozenset({State.FATAL, State.SKIPPED, State.BACKOFF})


class FirstStart:
    """Whether the services of a stack are being started; `services` are those that will be."""

    def __init__(self, services: Collection[str]) -> None:
        self._services = services
        self._over = asyncio.Event()
        self._error: MsctlError | None = None
        self._failed = ""

    @contextmanager
    def step(self) -> Iterator[None]:
        """Run a part of the start; an error of it ends the start for all who wait."""
        try:
            yield
        except MsctlError as error:
            self._fail(error)
            raise
        except BaseException:
            self._fail(self.stopped())
            raise

    def broker_up(self) -> None:
        """The broker has started: from here on the supervisor knows which service waits for what."""
        self._over.set()

    def abandon(self) -> None:
        """The stack stops: let go all who still wait for its start."""
        self._fail(self.stopped())

    async def wait(self) -> None:
        """Wait until services can be started. Raises the error that kept the stack from starting."""
        await self._over.wait()
        if self._error is not None:
            raise self._error

    def services_settled(self, services: Iterable[ServiceSnapshot]) -> None:
        """Each service that was to start is ready or has failed, as these show."""
        failed = (one for one in services if one.name in self._services and one.state in FAILED)
        self._failed = "; ".join(f"{one.name} is {one.state.value}: {one.reason}" for one in failed)

    def stopped(self) -> MsctlError:
        """The error for a start that the stop of the stack ends; whoever stops it may do so for a failure."""
        why = f": {self._failed}" if self._failed else ""
        return MsctlError(
            f"the stack was stopped before the services were ready{why}",
            hint="show its last log lines with: msctl logs",
        )

    def services(self, present: tuple[ServiceSnapshot, ...]) -> tuple[ServiceSnapshot, ...]:
        """The services as others see them now."""
        if self._over.is_set():
            return present
        return tuple(self._waiting(service) for service in present)

    def broker(self, present: BrokerSnapshot) -> BrokerSnapshot:
        """The broker as others see it now."""
        return present if self._over.is_set() else replace(present, state=State.STARTING, reason="")

    def _waiting(self, service: ServiceSnapshot) -> ServiceSnapshot:
        if service.name not in self._services or service.kind is Kind.REMOTE:
            return service
        instances = tuple(replace(one, state=State.WAITING, reason=REASON) for one in service.instances)
        return replace(service, state=State.WAITING, reason=REASON, instances=instances)

    def _fail(self, error: MsctlError) -> None:
        if not self._over.is_set():
            self._error = error
            self._over.set()

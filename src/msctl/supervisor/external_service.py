"""An external service: publishes its URL and probes its health; never starts or stops it."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from msctl.clock import AsyncClock
from msctl.model.address import Address
from msctl.model.endpoint import Endpoint
from msctl.model.project import ServiceSpec
from msctl.model.services import health_path
from msctl.model.worker import Checks, Outcome
from msctl.processes.probes import ExternalChecks, http_probe, tcp_probe


class ExternalWorker:
    """The worker of a service with a `url`."""

    def __init__(self, spec: ServiceSpec, instance: str, *, clock: AsyncClock) -> None:
        self._spec = spec
        self._instance = instance
        self._url = spec.url or ""
        self._clock = clock

    @property
    def pid(self) -> int | None:
        return None

    @property
    def address(self) -> str | None:
        return self._url

    @property
    def endpoint(self) -> Endpoint | None:
        return Endpoint(self._spec.name, self._instance, base_url=self._url)

    @property
    def checks(self) -> Checks | None:
        parts = urlsplit(self._url)
        address = Address(parts.hostname or "", parts.port or 80)
        health = health_path(self._spec)
        return ExternalChecks(self._clock, http_probe(address, health) if health else tcp_probe(address))

    async def start(self) -> None:
        """Do nothing: the service runs elsewhere."""

    def reconfigure(self, spec: ServiceSpec) -> None:
        """Do nothing: no live key concerns the worker."""

    async def wait(self) -> Outcome:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a future that nobody completes has completed")

    async def stop(self, timeout: float) -> str | None:  # noqa: ARG002 - of the protocol
        return None

    def kill(self) -> None:
        """Do nothing, as `start`."""

"""A service that other machines run: it is ready while the registry knows an instance of it.

Its instances are announced to the stack's registry by `Discovery`; the worker only tells how it stands.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from msctl.discovery.discovery import Discovered
from msctl.model.endpoint import Endpoint
from msctl.model.service_spec import ServiceSpec
from msctl.model.worker import Checks, Outcome, Report


class DiscoveredWorker:
    """The worker of a service that is found in a registry; None where there is none."""

    def __init__(self, service: str, discovered: Discovered | None) -> None:
        self._service = service
        self._discovered = discovered

    @property
    def pid(self) -> int | None:
        return None

    @property
    def address(self) -> str | None:
        return None

    @property
    def endpoint(self) -> Endpoint | None:
        return None

    @property
    def checks(self) -> Checks | None:
        return _DiscoveredChecks(self._service, self._discovered)

    async def start(self) -> None:
        """Let its instances take requests; it runs elsewhere."""
        if self._discovered is not None:
            self._discovered.use(self._service, wanted=True)

    def reconfigure(self, spec: ServiceSpec) -> None:
        """Do nothing: no live key concerns the worker."""

    async def wait(self) -> Outcome:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable: nobody completes this future")

    async def stop(self, timeout: float) -> str | None:  # noqa: ARG002 - of the protocol
        if self._discovered is not None:
            self._discovered.use(self._service, wanted=False)
        return None

    def kill(self) -> None:
        """Do nothing, as `start`."""


@dataclass(slots=True)
class _DiscoveredChecks:
    service: str
    discovered: Discovered | None

    async def run(self, report: Report) -> str:
        if self.discovered is None:
            report.failed("there is no registry here", unhealthy=True)
            await asyncio.get_running_loop().create_future()
            raise AssertionError("unreachable: nobody completes this future")
        while True:
            if self.discovered.asked:
                absence = self.discovered.absence(self.service)
                if absence is None:
                    report.passed()
                else:
                    report.failed(absence, unhealthy=True)
            await self.discovered.change()

"""An external service: publishes its URL and probes its health; never starts or stops it.

With several URLs each instance has one. With `resolve` the addresses of the URL's host are looked up again
and again and probed one by one: those that answer are endpoints of their own.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from msctl.clock import AsyncClock
from msctl.discovery.dns import Resolve, resolve, resolve_srv
from msctl.errors import ConfigError
from msctl.model.address import Address
from msctl.model.endpoint import Endpoint, Target
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import SRV_SCHEME, health_path, resolve_every, upstream_host
from msctl.model.worker import Checks, Outcome, Report, StartError
from msctl.processes.checks import ExternalChecks
from msctl.processes.probe_schedule import FAILING_EVERY, FAILURE_THRESHOLD, READY_EVERY
from msctl.processes.probes import (
    Probe,
    ProbeTls,
    http_probe,
    run_probe,
    tcp_probe,
)

MAX_PROBES = 16
"""Addresses of one name that are probed at once."""


def _resolver(url: str) -> Resolve:
    return resolve_srv if url.startswith(SRV_SCHEME) else resolve


def _server_name(url: str, host: str) -> str | None:
    """The name that a certificate must have, if it is not the URL's host: the domain of SRV records."""
    return re.sub(r"^(_[^.]+\.)*", "", host) if url.startswith(SRV_SCHEME) else None


class ExternalWorker:
    """The worker of an instance of a service with a `url`."""

    def __init__(
        self, spec: ServiceSpec, instance: str, *, clock: AsyncClock, resolve: Resolve | None = None
    ) -> None:
        self._spec = spec
        self._clock = clock
        number = instance.rpartition("-")[2]
        self._url = spec.urls[(int(number) - 1) % len(spec.urls)] if number.isdecimal() else spec.urls[0]
        self._resolve = resolve or _resolver(self._url)
        parts = urlsplit(self._url.removeprefix(SRV_SCHEME))
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._endpoint = Endpoint(
            spec.name,
            instance,
            base_url=self._url.removeprefix(SRV_SCHEME),
            server_name=(spec.tls and spec.tls.server_name) or _server_name(self._url, self._host),
            host_header=upstream_host(spec, self._url),
            addresses=None if resolve_every(spec) is None else (),
        )

    @property
    def pid(self) -> int | None:
        return None

    @property
    def address(self) -> str | None:
        return self._url

    @property
    def endpoint(self) -> Endpoint | None:
        return self._endpoint

    @property
    def checks(self) -> Checks | None:
        every = resolve_every(self._spec)
        if every is None:
            return ExternalChecks(self._clock, self._probe(Target(self._host, self._port)))
        return _ResolvingChecks(self, every, self._clock)

    async def start(self) -> None:
        """Read the certificates for an https URL; the service itself runs elsewhere. Raises StartError."""
        if not self._url.removeprefix(SRV_SCHEME).startswith("https:"):
            return
        from msctl.tls.upstream import client_context

        try:
            context = await asyncio.to_thread(client_context, self._spec.tls)
        except ConfigError as error:
            raise StartError(Outcome(False, error.message, final=True)) from error
        self._endpoint = replace(self._endpoint, tls=context)

    async def lookup(self) -> tuple[Target, ...]:
        """Return the addresses of its host; raises OSError."""
        return await self._resolve(self._host, self._port)

    async def probe(self, address: Target) -> str | None:
        """Probe one address; returns why it failed."""
        return await run_probe(self._probe(address))

    def move(self, addresses: tuple[Target, ...]) -> bool:
        """Use these addresses from now on; return whether they differ from the present ones."""
        if self._endpoint.addresses == addresses:
            return False
        self._endpoint = replace(self._endpoint, addresses=addresses)
        return True

    @property
    def host(self) -> str:
        return self._host

    def _probe(self, target: Target) -> Probe:
        address, health = Address(target.host, target.port), health_path(self._spec)
        tls, context = None, self._endpoint.tls
        if context is not None:
            tls = ProbeTls(context, self._endpoint.server_name or self._host)
        if health is None:
            return tcp_probe(address, tls)
        authority = urlsplit(self._url).netloc.rpartition("@")[2]
        return http_probe(address, health, {"Host": authority}, tls=tls)

    def reconfigure(self, spec: ServiceSpec) -> None:
        """Do nothing: no live key concerns the worker."""

    async def wait(self) -> Outcome:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a future that nobody completes has completed")

    async def stop(self, timeout: float) -> str | None:  # noqa: ARG002 - of the protocol
        return None

    def kill(self) -> None:
        """Do nothing, as `start`."""


@dataclass(slots=True)
class _ResolvingChecks:
    """Looks the host up every `every` seconds and probes its addresses.

    An address is used from its first passed probe until several failed in a row, or until the name has it no
    more; one of a higher priority only while none of a lower one answers. While the name cannot be looked up,
    its former addresses stay.
    """

    worker: ExternalWorker
    every: float
    clock: AsyncClock
    _failures: dict[Target, int] = field(default_factory=dict)
    """The failures in a row of each address in use."""

    async def run(self, report: Report) -> str:
        addresses: tuple[Target, ...] = ()
        looked_up = -self.every
        while True:
            why = None
            if self.clock.monotonic() - looked_up >= self.every or not addresses:
                try:
                    addresses = await self.worker.lookup()
                    looked_up = self.clock.monotonic()
                except OSError as error:
                    what = error.strerror or str(error) or "no response"
                    why = f"{self.worker.host} does not resolve: {what}"
            reasons = await self._probe(addresses)
            moved = self.worker.move(_preferred(tuple(a for a in addresses if a in self._failures)))
            if self._failures:
                report.passed()
            else:
                report.failed(why or reasons or f"{self.worker.host} has no address", unhealthy=True)
            if moved:
                report.moved()
            await self.clock.sleep(min(self.every, READY_EVERY if self._failures else FAILING_EVERY))

    async def _probe(self, addresses: tuple[Target, ...]) -> str | None:
        """Probe every address and update the failures; return a reason of those that failed."""
        limit = asyncio.Semaphore(MAX_PROBES)

        async def probe(address: Target) -> str | None:
            async with limit:
                return await self.worker.probe(address)

        results = await asyncio.gather(*map(probe, addresses))
        counted: dict[Target, int] = {}
        for address, failure in zip(addresses, results, strict=True):
            failures = self._failures.get(address, FAILURE_THRESHOLD - 1) + 1 if failure else 0
            if failures < FAILURE_THRESHOLD:
                counted[address] = failures
        self._failures = counted
        return next((reason for reason in results if reason), None)


def _preferred(addresses: tuple[Target, ...]) -> tuple[Target, ...]:
    """The addresses of the lowest priority."""
    lowest = min((address.priority for address in addresses), default=0)
    return tuple(address for address in addresses if address.priority == lowest)

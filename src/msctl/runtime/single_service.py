"""One service of a project, alone in this process: in a container, or as an isolated instance.

It has no control socket and no broker of its own; it finds the broker and other services by their URLs.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

from msctl import __version__
from msctl.brokers.external import ExternalBroker
from msctl.clock import AsyncClock
from msctl.discovery.registry import Registry
from msctl.errors import ConfigError, MsctlError
from msctl.gateway.app import Gateway
from msctl.model.address import Address
from msctl.model.events import Event
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.service_context import ServiceContext
from msctl.model.service_names import unknown
from msctl.model.service_spec import Isolation
from msctl.model.services import process_stop_timeout
from msctl.model.snapshots import GATEWAY, BrokerMode, BrokerSnapshot, Kind, Snapshot, State
from msctl.runtime.dependencies import dependency_variables
from msctl.runtime.machines import make_discovery, with_discovered
from msctl.runtime.metrics_listener import MetricsListener
from msctl.supervisor.context import SupervisorContext
from msctl.supervisor.supervisor import Supervisor
from msctl.telemetry.logs.hub import LogHub
from msctl.telemetry.observation import Observation
from msctl.tls.context import ServerTls


class SingleService:
    """The service `name` of `project` on host:port, from `open` to `close`."""

    def __init__(
        self,
        project: Project,
        name: str,
        *,
        instance: str,
        host: str,
        port: int,
        clock: AsyncClock,
        logs: LogHub,
        metrics_port: int | None = None,
    ) -> None:
        """With `metrics_port`, the metrics of the process are at that port too, at the same host.

        Raises UnknownServiceError, and MsctlError for a command or an external service."""
        self._name = name
        self._project = _alone(project, name, host, port)
        self._routes = [route for spec in project.services for route in spec.routes]
        self._policies = {spec.name: spec.policy for spec in project.services}
        self._clock = clock
        self._began = clock.monotonic()
        self._ending = asyncio.Event()
        self._lost: str | None = None
        self._stop_timeout = process_stop_timeout(self._project.services[0])
        self._registry = Registry()
        self._discovery = None
        if name == GATEWAY:
            self._discovery = make_discovery(project, self._registry, clock, announces=False)
        self._broker = ExternalBroker(replace(project.broker, mode=BrokerMode.EXTERNAL), clock=clock)
        self._gateway: Gateway | None = None
        self._observation = Observation(
            self._project,
            logs,
            os.environ,
            snapshot=self.snapshot,
            targets=lambda: () if self._gateway is None else self._gateway.targets(),
        )
        self._metrics: MetricsListener | None = None
        if metrics_port is not None:
            self._metrics = MetricsListener(Address(host, metrics_port), self._observation.page)
        self._tls = ServerTls(os.environ)
        self._tls.use(self._tls.read(self._project))
        self._supervisor = Supervisor(
            self._project,
            SupervisorContext(
                clock=clock,
                logs=logs,
                registry=self._registry,
                builtin={GATEWAY: self._make_gateway},
                amqp_url=lambda: self._broker.url,
                on_event=self._on_event,
                instance_name=lambda service, number: instance if service == name else f"{service}-{number}",
                instrument=self._observation.requests,
                tls=lambda: self._tls.context,
                discovered=self._discovery,
            ),
        )

    async def open(self) -> None:
        """Bind. Raises PortTakenError, and ConfigError for unusable keys of the gateway's routes."""
        if self._name == GATEWAY:
            self._build_gateway()
        if self._metrics is not None:
            self._metrics.reserve()
        self._supervisor.reserve([self._name])
        self._observation.start()

    async def up(self) -> Snapshot:
        """Start the service, and return what it is then. Raises MsctlError where it does not become ready."""
        if self._discovery is not None:
            self._discovery.start()
        if external := [spec.name for spec in self._project.services if spec.name != self._name]:
            await self._supervisor.start(external)
        await self._supervisor.start([self._name])
        service = self._supervisor.snapshot()[0]
        if service.state is not State.READY:
            failure = f"{service.name} is {service.state.value}: {service.reason}"
            raise ConfigError(failure) if self._supervisor.is_absent(self._name) else MsctlError(failure)
        if self._metrics is not None:
            await self._metrics.open()
        return await self.snapshot()

    async def wait_stop_requested(self) -> None:
        """Wait for `request_stop`. Raises MsctlError if the service fails for good."""
        await self._ending.wait()
        if self._lost is not None:
            raise MsctlError(self._lost)

    def request_stop(self, timeout: float | None = None) -> None:
        if timeout is not None:
            self._stop_timeout = timeout
        self._ending.set()

    async def close(self) -> None:
        await self._supervisor.shutdown(self._stop_timeout)
        if self._discovery is not None:
            await self._discovery.stop()
        if self._metrics is not None:
            await self._metrics.close()
        await self._observation.stop()

    def kill(self) -> None:
        self._supervisor.kill()

    async def snapshot(self) -> Snapshot:
        return Snapshot(
            project=self._project.name,
            root=None if self._project.root is None else str(self._project.root),
            version=__version__,
            pid=os.getpid(),
            uptime_s=self._clock.monotonic() - self._began,
            services=with_discovered(self._supervisor.snapshot(), self._discovery),
            broker=await self._broker_snapshot(),
            registry=None if self._discovery is None else self._discovery.snapshot(),
        )

    async def _broker_snapshot(self) -> BrokerSnapshot:
        """The gateway uses no broker, and knows none."""
        if self._name != GATEWAY:
            return await self._broker.snapshot()
        return BrokerSnapshot(BrokerMode.EXTERNAL, State.STOPPED, "", reason="the gateway uses no broker")

    def _on_event(self, event: Event) -> None:
        """Stop when the service has failed for good; the container engine decides about a restart."""
        if event.state is State.FATAL:
            self._lost = f"{event.service} is {event.state.value}: {event.reason}"
            self._ending.set()

    def _make_gateway(self, _context: ServiceContext) -> Gateway:
        self._gateway = self._build_gateway()
        return self._gateway

    def _build_gateway(self) -> Gateway:
        spec = self._project.gateway
        if spec is None:
            raise MsctlError("the gateway is disabled in the configuration")
        return Gateway(
            spec,
            self._routes,
            self._registry,
            clock=self._clock,
            services=self._policies,
            secrets=self._project.secrets,
            observer=self._observation.requests,
        )


def _alone(project: Project, name: str, host: str, port: int) -> Project:
    """The project reduced to this service, in this process and without dependencies.

    The gateway keeps the external services, since it routes to them.
    """
    spec = project.service(name)
    if spec is None:
        raise unknown(name, [service.name for service in project.services])
    if spec.command is not None:
        raise MsctlError(f"service {name!r} is a command: run it without msctl")
    if spec.only_discovered:
        raise MsctlError(f"service {name!r} runs on other machines")
    if spec.app is None and spec.url is not None:
        raise MsctlError(f"service {name!r} runs elsewhere, at {spec.url}")
    only = replace(
        spec,
        host=host,
        port=port,
        depends_on=(),
        replicas=1,
        isolation=Isolation.NONE,
        url=None,
        env={**dependency_variables(project, spec, os.environ), **spec.env},
    )
    gateway = None
    if name == GATEWAY:
        gateway = replace(project.gateway or GatewaySpec(), host=host, port=port)
    external = [other for other in project.services if other.kind is Kind.REMOTE and other.name != name]
    kept = external if name == GATEWAY else []
    return replace(project, services=(only, *kept), gateway=gateway)

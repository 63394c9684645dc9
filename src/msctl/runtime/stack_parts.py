"""The composition root: the one place that builds and connects the parts of a stack.

Parts know each other only through what is passed here. Most of it is callables, since the project that is
current changes with a reload.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msctl import __version__
from msctl.broker.storage.storage import StorageSpec
from msctl.brokers.modes import make_broker
from msctl.clock import AsyncClock
from msctl.control.paths import StackPaths
from msctl.control.runs import database_path, make_run, run_name
from msctl.discovery.registry import Registry
from msctl.faults.kinds import Place
from msctl.model.broker_spec import BrokerSpec
from msctl.model.events import LogLine
from msctl.model.project import Project
from msctl.model.service_health import seen_by_gateway
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import GATEWAY, ServiceSnapshot, Snapshot, TargetSnapshot
from msctl.runtime.broker_faults import BrokerFaultCarrier
from msctl.runtime.embedded_host import EmbeddedHost
from msctl.runtime.event_feed import EventFeed
from msctl.runtime.fault_control import FaultControl
from msctl.runtime.fault_world import FaultWorld
from msctl.runtime.first_start import FirstStart
from msctl.runtime.gateways import Gateways
from msctl.runtime.http_faults import HttpFaultCarrier
from msctl.runtime.machines import make_discovery, with_discovered
from msctl.runtime.port_holder import naming_stacks
from msctl.runtime.process_faults import ProcessFaultCarrier
from msctl.runtime.service_addresses import AddressBook
from msctl.supervisor.context import SupervisorContext
from msctl.supervisor.supervisor import Supervisor
from msctl.telemetry.logs.hub import STACK, LogHub
from msctl.telemetry.logs.run_files import RunFiles
from msctl.telemetry.observation import Observation
from msctl.telemetry.runs.recorder import RunRecorder
from msctl.tls.context import ServerTls

T = TypeVar("T")


class StackParts:
    """What a stack consists of, besides the page and the control socket; `project` is the current one."""

    def __init__(
        self,
        project: Project,
        paths: StackPaths,
        first_start: FirstStart,
        *,
        runs: Path,
        broker_log: Path,
        clock: AsyncClock,
        logs: LogHub,
        serve_argv: Callable[[str, str], Sequence[str]],
        ready: Callable[[], Awaitable[None]],
    ) -> None:
        """`ready` waits until services can be started. Raises ConfigError."""
        self.project = project
        self.clock = clock
        self.logs = logs
        self.first_start = first_start
        self.page: str | None = None
        """The URL of the dashboard while it is served."""
        self._broker_log = broker_log
        self._began = clock.monotonic()
        self._tasks: set[asyncio.Task[object]] = set()
        self.events = EventFeed(clock, self.services)
        self.run = run = run_name(clock.time())
        self.files = RunFiles(lambda: make_run(runs, run), clock, self._log_file_trouble)
        self.recorder = RunRecorder(
            lambda: database_path(runs), run, __version__, clock, self._log_file_trouble
        )
        logs.listen(self._keep_line)
        self.registry = Registry()
        self.discovery = make_discovery(project, self.registry, clock)
        self.observation = Observation(
            project,
            logs,
            os.environ,
            snapshot=self.snapshot,
            targets=self.targets,
        )
        self.gateways = Gateways(self.registry, clock, self.observation.requests)
        self.addresses = AddressBook(self.gateways.build_for_address)
        self.tls = ServerTls(os.environ)
        self.tls.use(self.tls.read(project))
        self.embedded = EmbeddedHost(
            project,
            clock=clock,
            log=self._log_broker,
            storage=self._storage_spec,
            page=lambda: self.page,
            env=os.environ,
            touched=self.observation.requests.message_faulted,
        )
        self.broker = make_broker(
            project.broker,
            paths.folder,
            clock=clock,
            log=self._log_broker,
            embedded=self.embedded.make,
            definitions=self.embedded.for_node,
        )
        world = FaultWorld(
            project=lambda: self.project,
            services=self.services,
            routes=lambda: self.gateways.routes,
            addresses=self.addresses,
            broker=self.broker.snapshot,
            embedded=self.embedded,
        )
        points = self.gateways.faults, self.gateways.address_faults
        self.process_faults = ProcessFaultCarrier(self.services, self._restart_one)
        self.faults = FaultControl(
            clock,
            logs,
            world.see,
            {
                Place.HTTP: HttpFaultCarrier(points, clock, self.observation.requests, world.notes),
                Place.BROKER: BrokerFaultCarrier(lambda: self.embedded.server, clock),
                Place.PROCESS: self.process_faults,
            },
            ready=ready,
        )
        self.supervisor = Supervisor(
            project,
            SupervisorContext(
                clock=clock,
                logs=logs,
                registry=self.registry,
                builtin={GATEWAY: lambda _context: self.gateways.make(self.project)},
                amqp_url=lambda: self.broker.url,
                on_event=self.events.record,
                serve_argv=serve_argv,
                pid_file=paths.children,
                instrument=self.observation.requests,
                tls=lambda: self.tls.context,
                child_env=self._child_env,
                faults=self.process_faults,
                files=self.files,
                service_address=self.addresses.locate,
                discovered=self.discovery,
            ),
        )

    @property
    def root(self) -> str | None:
        """The project's folder."""
        return None if self.project.root is None else str(self.project.root)

    # --- tasks ------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run in the background, until `cancel_tasks` at the latest."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel_tasks(self) -> list[asyncio.Task[object]]:
        """Cancel what runs in the background, and return it to be awaited."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        return tasks

    # --- what parts ask of others -----------------------------------------------------------------

    async def snapshot(self) -> Snapshot:
        return Snapshot(
            project=self.project.name,
            root=self.root,
            version=__version__,
            pid=os.getpid(),
            uptime_s=self.clock.monotonic() - self._began,
            services=seen_by_gateway(
                self.observation.metrics.annotate(with_discovered(self.services(), self.discovery)),
                self.targets(),
            ),
            broker=self.first_start.broker(await self.broker.snapshot()),
            dashboard=self.page,
            faults=self.faults.active(),
            registry=None if self.discovery is None else self.discovery.snapshot(),
        )

    def services(self) -> tuple[ServiceSnapshot, ...]:
        return self.first_start.services(self.supervisor.snapshot())

    def targets(self) -> tuple[TargetSnapshot, ...]:
        """The gateway's view of the instances, while it takes requests."""
        routed = self.gateways.targets()
        known = {(target.service, target.instance) for target in routed}
        others = (t for t in self.addresses.targets() if (t.service, t.instance) not in known)
        return (*routed, *others)

    def api_document(self) -> str | None:
        """The URL of the OpenAPI document that the running gateway joins."""
        spec = self.gateways.running.spec
        gateway = next((s for s in self.supervisor.snapshot() if s.name == GATEWAY and s.urls), None)
        return None if spec.openapi is None or gateway is None else gateway.urls[0] + spec.openapi

    async def _restart_one(self, service: str) -> None:
        with naming_stacks(os.environ):
            await self.supervisor.restart([service], deps=False)

    def _child_env(self, spec: ServiceSpec, instance: str, inherited: Mapping[str, str]) -> Mapping[str, str]:
        """Variables that reach a child besides its configured ones: for its traces, and from faults."""
        traces = self.observation.receiver.environment(spec, instance, inherited)
        return {**traces, **self.process_faults.environment(spec.name, instance, inherited)}

    def _storage_spec(self, spec: BrokerSpec) -> StorageSpec:
        where = f" in {self.root}" if self.root else ""
        return StorageSpec(
            self._broker_log,
            spec.durable,
            holder=f"the stack of project {self.project.name!r}{where} (pid {os.getpid()})",
            optional=not spec.durable_given,
        )

    def _keep_line(self, line: LogLine) -> None:
        """Keep a line in its service's file; what a child prints is written there as it is read."""
        if not (line.stream and line.instance):
            self.files.line(line)

    def _log_file_trouble(self, text: str) -> None:
        self.logs.append(STACK, text, "warning")

    def _log_broker(self, level: str, text: str) -> None:
        self.logs.append("broker", text, level)

"""The composition root: the one place that builds and connects the parts of a stack.

`Stack` is a running project behind SystemView; process_life.py runs it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from msctl import __version__
from msctl.amqp.queue_admin import QueueAdmin
from msctl.broker.storage.storage import StorageSpec
from msctl.brokers.modes import make_broker
from msctl.clock import AsyncClock
from msctl.config.diff import diff, with_edited, without
from msctl.control.dashboard_token import dashboard_token
from msctl.control.paths import StackPaths
from msctl.control.record import StackRecord
from msctl.control.runs import DATABASE, database_path, make_run, run_name
from msctl.control.server import ControlServer
from msctl.dashboard.app import Dashboard, DashboardViews
from msctl.discovery.registry import Registry
from msctl.errors import MsctlError, NotRunningError, PortTakenError
from msctl.faults.kinds import Place
from msctl.model import dependency_graph
from msctl.model.broker_spec import BrokerSpec
from msctl.model.events import Event, LogLine, LogQuery
from msctl.model.project import Project, RouteSpec, ServiceSpec
from msctl.model.queue_messages import PeekedMessage
from msctl.model.routing import RouteExplanation
from msctl.model.service_health import seen_by_gateway
from msctl.model.service_names import select, unknown
from msctl.model.snapshots import GATEWAY, Kind, ServiceSnapshot, Snapshot, TargetSnapshot
from msctl.model.views import ReloadResult, ServiceDetails, ServiceVariables
from msctl.processes.pid_file import kill_leftovers
from msctl.runtime.auto_reload import reload_on_edits
from msctl.runtime.broker_faults import BrokerFaultCarrier
from msctl.runtime.embedded_host import EmbeddedHost
from msctl.runtime.fault_control import FaultControl
from msctl.runtime.fault_world import FaultWorld
from msctl.runtime.first_start import FAILED, FirstStart
from msctl.runtime.gateways import Gateways
from msctl.runtime.http_faults import HttpFaultCarrier
from msctl.runtime.machines import make_discovery, with_discovered
from msctl.runtime.port_holder import naming_stacks
from msctl.runtime.process_faults import ProcessFaultCarrier
from msctl.runtime.record_file import RecordFile
from msctl.runtime.reload_request import ProjectSource, refuse, rules_of
from msctl.runtime.run_archive import RunArchive
from msctl.runtime.service_addresses import AddressBook
from msctl.runtime.service_details import service_details
from msctl.supervisor.context import SupervisorContext
from msctl.supervisor.supervisor import Supervisor
from msctl.telemetry.logs.broadcast import Broadcast
from msctl.telemetry.logs.hub import STACK, LogHub
from msctl.telemetry.logs.run_files import RunFiles
from msctl.telemetry.observation import Observation
from msctl.telemetry.runs.recorder import RunRecorder
from msctl.tls.context import ServerTls, files

T = TypeVar("T")

log = logging.getLogger("msctl.runtime.stack")

STOP_TIMEOUT = 30.0
"""Seconds within which the whole stack stops, unless `down -t` says otherwise."""


class Stack:
    """A project's services, gateway and broker in this process. Implements model.SystemView."""

    def __init__(
        self,
        project: Project,
        source: ProjectSource,
        paths: StackPaths,
        services: Sequence[str],
        *,
        listening: socket.socket,
        runs: Path,
        broker_log: Path,
        clock: AsyncClock,
        logs: LogHub,
        serve_argv: Callable[[str, str], Sequence[str]],
    ) -> None:
        """`services` are names or globs of the services to start; none means all with autostart.
        `listening` is the control socket, `runs` the folder in which the logs of runs are kept, and
        `broker_log` the one of the embedded broker's log.

        Raises ConfigError and UnknownServiceError.
        """
        self._project = project
        self._source = source
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()
        self._chosen = self._select(services)
        self._first_start = FirstStart(dependency_graph.closure(project.services, self._chosen))
        self._paths = paths
        self._broker_log = broker_log
        self._clock = clock
        self._logs = logs
        self._began = clock.monotonic()
        self._record_file = RecordFile(paths, self._make_record)
        self._events: Broadcast[Event] = Broadcast()
        run = run_name(clock.time())
        self._files = RunFiles(lambda: make_run(runs, run), clock, self._log_file_trouble)
        self._recorder = RunRecorder(
            lambda: database_path(runs), run, __version__, clock, self._log_file_trouble
        )
        logs.listen(self._keep_line)
        self._seq = 0
        self._ending = asyncio.Event()
        self._stop_timeout = STOP_TIMEOUT
        self._registry = Registry()
        self._discovery = make_discovery(project, self._registry, clock)
        self._observation = Observation(
            project,
            logs,
            os.environ,
            snapshot=self.snapshot,
            targets=self._targets,
        )
        self._gateways = Gateways(self._registry, clock, self._observation.requests)
        self._addresses = AddressBook(self._gateways.build_for_address)
        self._page: str | None = None
        self._tls = ServerTls(os.environ)
        self._tls.use(self._tls.read(project))
        self._broker_started = False
        self._embedded = EmbeddedHost(
            project,
            clock=clock,
            log=self._log_broker,
            storage=self._storage_spec,
            page=lambda: self._page,
            env=os.environ,
            touched=self._observation.requests.message_faulted,
        )
        self._broker = make_broker(
            project.broker,
            paths.folder,
            clock=clock,
            log=self._log_broker,
            embedded=self._embedded.make,
            definitions=self._embedded.for_node,
        )
        world = FaultWorld(
            project=lambda: self._project,
            services=self._services,
            routes=lambda: self._gateways.routes,
            addresses=self._addresses,
            broker=self._broker.snapshot,
            embedded=self._embedded,
        )
        points = self._gateways.faults, self._gateways.address_faults
        self._process_faults = ProcessFaultCarrier(self._services, self._restart_one)
        self._faults = FaultControl(
            clock,
            logs,
            world.see,
            {
                Place.HTTP: HttpFaultCarrier(points, clock, self._observation.requests, world.notes),
                Place.BROKER: BrokerFaultCarrier(lambda: self._embedded.server, clock),
                Place.PROCESS: self._process_faults,
            },
            ready=self._ready_for_verbs,
        )
        self._supervisor = Supervisor(
            project,
            SupervisorContext(
                clock=clock,
                logs=logs,
                registry=self._registry,
                builtin={GATEWAY: lambda _context: self._gateways.make(self._project)},
                amqp_url=lambda: self._broker.url,
                on_event=self._record,
                serve_argv=serve_argv,
                pid_file=paths.children,
                instrument=self._observation.requests,
                tls=lambda: self._tls.context,
                child_env=self._child_env,
                faults=self._process_faults,
                files=self._files,
                service_address=self._addresses.locate,
                discovered=self._discovery,
            ),
        )
        self._queues = QueueAdmin(lambda: self._broker.url, self._broker.browse, self._embedded.documents)
        self._dashboard = (
            Dashboard(
                project.dashboard,
                self,
                DashboardViews(
                    self._observation.page,
                    traces=self._observation.tracer,
                    queues=self._queues,
                    runs=RunArchive(runs.parent / DATABASE),
                    run=run,
                    details=self,
                    routes=self,
                    faults=self._faults,
                    api_document=self._api_document,
                ),
                dashboard_token(paths),
            )
            if project.dashboard.enabled
            else None
        )
        self._control = ControlServer(
            self,
            paths.socket,
            listening=listening,
            traces=self._observation.tracer,
            routes=self,
            variables=self,
            definitions=self._embedded.export,
            faults=self._faults,
        )

    # --- its life ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Answer on the control socket, then bind the listeners.

        Raises PortTakenError, ConfigError for unusable keys of routes, or MsctlError; `close` must be called
        in any case.
        """
        await self._control.start()
        with self._first_start.step(), naming_stacks(os.environ):
            await self._open()

    async def _open(self) -> None:
        for left in kill_leftovers(self._paths.children):
            self._logs.append(STACK, left.ended, "warning")
        if GATEWAY in self._chosen:
            self._gateways.build(self._project)  # checks the keys of its routes before anything starts
        self._supervisor.reserve(self._chosen)
        self._addresses.reserve(self._project)
        self._record_file.write()
        self._observation.start()
        self._observation.record(self._recorder)
        self._spawn(self._observation.keep_recording(self._recorder, self._clock))
        await self._observation.receive(self._project)
        await self._observation.receive_openly(self._project)
        await self._open_dashboard()

    async def up(self) -> None:
        """Start the broker, then the services; return when each is ready or has failed.

        Raises BrokerError if a broker that the stack runs does not start.
        """
        with self._first_start.step(), naming_stacks(os.environ):
            await self._broker.start()
            self._broker_started = True
            self._record_file.write()
            await self._addresses.open(self._project)
        self._first_start.broker_up()
        if self._discovery is not None:
            self._discovery.start()
        with naming_stacks(os.environ):
            await self._supervisor.start(self._chosen)
        self._first_start.services_settled(self._supervisor.snapshot())
        self._record_file.write()
        if self._source.watched:
            self._spawn(reload_on_edits(self._watched_files, self.reload, clock=self._clock, logs=self._logs))

    def request_stop(self, timeout: float | None = None) -> None:
        """Let `wait_stop_requested` return; the services then have `timeout` seconds to stop."""
        if timeout is not None:
            self._stop_timeout = timeout
        self._ending.set()

    async def wait_stop_requested(self) -> None:
        """Wait for `request_stop`."""
        await self._ending.wait()

    async def close(self) -> None:
        """Stop everything in order, the control socket last: `down` waits on it."""
        self._first_start.abandon()
        self._process_faults.stopping = True
        await self._faults.clear_all("the stack stops")
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if self._discovery is not None:
            await self._discovery.leave()
        await self._supervisor.shutdown(self._stop_timeout)
        if self._discovery is not None:
            await self._discovery.stop()
        await self._addresses.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._broker.stop()
        if self._dashboard is not None:
            await self._dashboard.stop()
        await self._observation.stop()
        self._observation.record(self._recorder, everything=True)
        await asyncio.to_thread(self._recorder.close)
        await asyncio.to_thread(self._files.close)
        await self._control.stop()
        self._record_file.clear()

    def kill(self) -> None:
        """Kill every child at once."""
        self._supervisor.kill()

    # --- SystemView -------------------------------------------------------------------------------

    async def snapshot(self) -> Snapshot:
        return Snapshot(
            project=self._project.name,
            root=self._root,
            version=__version__,
            pid=os.getpid(),
            uptime_s=self._clock.monotonic() - self._began,
            services=seen_by_gateway(
                self._observation.metrics.annotate(with_discovered(self._services(), self._discovery)),
                self._targets(),
            ),
            broker=self._first_start.broker(await self._broker.snapshot()),
            dashboard=self._page,
            faults=self._faults.active(),
            registry=None if self._discovery is None else self._discovery.snapshot(),
        )

    async def events(self) -> AsyncIterator[Event]:
        with self._events.subscribe() as feed:
            for event in self._present():
                yield event
            while True:
                for event in (await feed.take())[0]:
                    yield event

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        known = (*self._names, STACK, "broker")
        names = select(query.services, known) if query.services else ()
        return self._logs.follow(replace(query, services=tuple(names)))

    async def start(self, services: Sequence[str], *, deps: bool = True) -> Snapshot:
        await self._ready_for_verbs()
        with naming_stacks(os.environ):
            await self._supervisor.start(self._select(services), deps=deps)
        snapshot = await self.snapshot()
        if self._ending.is_set() and not any(one.state in FAILED for one in snapshot.services):
            raise self._first_start.stopped()
        return snapshot

    async def apply(self, services: Sequence[str]) -> None:
        self._refuse_while_ending()
        self._spawn(self._apply(services))

    async def _apply(self, services: Sequence[str]) -> None:
        try:
            for name, reason in (await self.reload()).failed.items():
                self._logs.append(STACK, f"{name} was not updated: {reason}", "error")
            await self.start(services)
        except MsctlError as error:
            self._logs.append(STACK, f"cannot start what `up` asked for: {error.message}", "error")

    async def stop(self, services: Sequence[str]) -> Snapshot:
        await self._first_start.wait()
        await self._supervisor.stop(self._select(services, everything=True))
        return await self.snapshot()

    async def restart(self, services: Sequence[str], *, deps: bool = True) -> Snapshot:
        await self._ready_for_verbs()
        with naming_stacks(os.environ):
            await self._supervisor.restart(self._select(services), deps=deps)
        return await self.snapshot()

    async def _restart_one(self, service: str) -> None:
        with naming_stacks(os.environ):
            await self._supervisor.restart([service], deps=False)

    async def scale(self, counts: Mapping[str, int]) -> Snapshot:
        await self._ready_for_verbs()
        select(list(counts), self._names)
        with naming_stacks(os.environ):
            await self._supervisor.scale(counts)
        return await self.snapshot()

    async def reload(self) -> ReloadResult:
        await self._ready_for_verbs()
        # The caller may go away; a reload that has begun is completed.
        with naming_stacks(os.environ):
            return await asyncio.shield(self._spawn(self._reload()))

    def routes(self) -> tuple[RouteSpec, ...]:
        return self._gateways.running.routes

    def explain(self, method: str, target: str, headers: Mapping[str, str]) -> RouteExplanation:
        return self._gateways.running.explain(method, target, headers)

    async def variables(self, service: str | None) -> ServiceVariables:
        await self._first_start.wait()
        return self._supervisor.variables(None if service is None else self._select([service])[0])

    async def details(self, service: str) -> ServiceDetails:
        spec = self._project.service(service)
        if spec is None:
            raise unknown(service, [one.name for one in self._project.services])
        return service_details(self._project, spec, self._supervisor.variables(service))

    async def peek_queue(self, name: str) -> Sequence[PeekedMessage]:
        return await self._queues.look(name)

    async def purge_queue(self, name: str) -> int:
        return self._broker.purge(name)

    async def delete_queue(self, name: str) -> int:
        return self._broker.delete(name)

    async def shutdown(self, timeout: float | None = None) -> None:
        self.request_stop(timeout)

    # --- reload -----------------------------------------------------------------------------------

    async def _reload(self) -> ReloadResult:
        async with self._reloading:
            await self._faults.clear_all("reload")
            old, new = self._project, await asyncio.to_thread(self._source.load)
            refuse(old, new)
            certificate = await asyncio.to_thread(self._tls.read, new)
            definitions = await self._embedded.read(new)
            edited = await asyncio.to_thread(self._supervisor.edited)
            changes = with_edited(diff(old, new), old, new, edited)
            ruled = rules_of(old) != rules_of(new)
            if not changes:
                # Certificate files may have been replaced under the same names.
                return ReloadResult(
                    gateway=self._tls.use(certificate), definitions=await self._embedded.use(definitions)
                )
            if new.gateway is not None:
                self._gateways.build(new)  # raises for invalid rules before anything is changed
            plan = self._supervisor.prepare(new, changes)
            renewed = self._tls.use(certificate)
            defined = await self._embedded.use(definitions)
            await self._observation.receive(new)
            gateway, self._project = self._gateways.current, new
            self._find_for(new)
            await self._addresses.open(new)
            failed = await plan.apply()
            self._project = without(old, new, failed)
            if failed:
                self._find_for(self._project)
                await self._addresses.open(self._project)
            if GATEWAY in failed:
                self._gateways.current = gateway
            if self._gateways.current is not None and (ruled or failed):
                self._gateways.current.reconfigure(*rules_of(self._project))
            self._observation.reconfigure(self._project)
            await plan.retire()
            self._record_file.write()
            return ReloadResult(
                added=tuple(name for name in changes.added if name not in failed),
                removed=changes.removed,
                restarted=tuple(name for name in changes.restarted if name not in failed),
                scaled=tuple(name for name in changes.scaled if name not in failed),
                updated=changes.updated,
                gateway=ruled or renewed,
                definitions=defined,
                failed=dict(failed),
            )

    async def _watched_files(self) -> set[Path]:
        sources = await asyncio.to_thread(self._supervisor.files)
        users = {path for spec in self._project.services for route in spec.routes for path in route.key_files}
        definitions = self._project.broker.definitions
        defined = set() if definitions is None else {definitions}
        return {*self._source.files, *files(self._project), *users, *defined, *sources}

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- helpers ----------------------------------------------------------------------------------

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self._project.services)

    @property
    def _root(self) -> str | None:
        return None if self._project.root is None else str(self._project.root)

    def _select(self, patterns: Sequence[str], *, everything: bool = False) -> list[str]:
        """The services that match; without patterns, all (or all with autostart)."""
        if patterns:
            return select(patterns, self._names)
        return [spec.name for spec in self._project.services if everything or spec.autostart]

    def _services(self) -> tuple[ServiceSnapshot, ...]:
        return self._first_start.services(self._supervisor.snapshot())

    async def _ready_for_verbs(self) -> None:
        """Wait until the broker has started. Raises NotRunningError while the stack stops."""
        await self._first_start.wait()
        self._refuse_while_ending()

    def _refuse_while_ending(self) -> None:
        if self._ending.is_set():
            raise NotRunningError(
                f"the stack of project {self._project.name!r} is stopping",
                hint="wait for it to stop, then start it again with: msctl up",
            )

    def _make_record(self, pid: int, started: float) -> StackRecord:
        addresses = [
            address
            for service in self._supervisor.snapshot()
            if service.kind is not Kind.REMOTE
            for address in service.addresses
        ]
        return StackRecord(
            self._project.name,
            self._root,
            pid,
            started,
            tuple(dict.fromkeys(addresses)),
            broker_url=self._broker.url if self._broker_started else None,
            dashboard_url=None if self._dashboard is None or self._page is None else self._dashboard.link,
        )

    def _record(self, event: Event) -> None:
        self._seq = event.seq
        self._events.publish(event)

    def _present(self) -> list[Event]:
        """The present state of every instance, as events."""
        now = self._clock.time()
        return [
            Event(self._seq, now, service.name, instance.name, instance.state, instance.reason)
            for service in self._services()
            for instance in service.instances
        ]

    def _keep_line(self, line: LogLine) -> None:
        """Keep a line in its service's file; what a child prints is written there as it is read."""
        if not (line.stream and line.instance):
            self._files.line(line)

    def _log_file_trouble(self, text: str) -> None:
        self._logs.append(STACK, text, "warning")

    def _log_broker(self, level: str, text: str) -> None:
        self._logs.append("broker", text, level)

    def _storage_spec(self, spec: BrokerSpec) -> StorageSpec:
        where = f" in {self._root}" if self._root else ""
        return StorageSpec(
            self._broker_log,
            spec.durable,
            holder=f"the stack of project {self._project.name!r}{where} (pid {os.getpid()})",
            optional=not spec.durable_given,
        )

    def _targets(self) -> tuple[TargetSnapshot, ...]:
        """The gateway's view of the instances, while it takes requests."""
        routed = self._gateways.targets()
        known = {(target.service, target.instance) for target in routed}
        others = (t for t in self._addresses.targets() if (t.service, t.instance) not in known)
        return (*routed, *others)

    def _api_document(self) -> str | None:
        """The URL of the OpenAPI document that the running gateway joins."""
        spec = self._gateways.running.spec
        gateway = next((s for s in self._supervisor.snapshot() if s.name == GATEWAY and s.urls), None)
        return None if spec.openapi is None or gateway is None else gateway.urls[0] + spec.openapi

    def _find_for(self, project: Project) -> None:
        if self._discovery is not None:
            self._discovery.reconfigure(project)

    def _child_env(self, spec: ServiceSpec, instance: str, inherited: Mapping[str, str]) -> Mapping[str, str]:
        """Variables that reach a child besides its configured ones: for its traces, and from faults."""
        traces = self._observation.receiver.environment(spec, instance, inherited)
        return {**traces, **self._process_faults.environment(spec.name, instance, inherited)}

    async def _open_dashboard(self) -> None:
        """Serve the dashboard; a taken port disables the dashboard, not the stack."""
        if self._dashboard is None:
            return
        try:
            self._page = await self._dashboard.start()
        except PortTakenError as error:
            log.warning("%s; %s", error.message, error.hint)
        else:
            log.info("the dashboard is at %s", self._page)

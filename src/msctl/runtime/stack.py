"""A running project: its life from `open` to `close`, and what can be asked of it.

`stack_parts` builds and connects what it consists of; process_life.py runs it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from msctl.amqp.queue_admin import QueueAdmin
from msctl.clock import AsyncClock
from msctl.control.dashboard_token import dashboard_token
from msctl.control.paths import StackPaths
from msctl.control.record import StackRecord
from msctl.control.runs import DATABASE
from msctl.control.server import ControlServer
from msctl.dashboard.app import Dashboard, DashboardViews
from msctl.errors import MsctlError, NotRunningError, PortTakenError
from msctl.model import dependency_graph
from msctl.model.events import Event, LogLine, LogQuery
from msctl.model.project import Project
from msctl.model.queue_messages import PeekedMessage
from msctl.model.route_spec import RouteSpec
from msctl.model.routing import RouteExplanation
from msctl.model.service_names import select, unknown
from msctl.model.snapshots import GATEWAY, Kind, Snapshot
from msctl.model.views import ReloadResult, ServiceDetails, ServiceVariables
from msctl.processes.pid_file import kill_leftovers
from msctl.runtime.auto_reload import reload_on_edits
from msctl.runtime.first_start import FAILED, FirstStart
from msctl.runtime.port_holder import naming_stacks
from msctl.runtime.record_file import RecordFile
from msctl.runtime.reload_request import ProjectSource
from msctl.runtime.run_archive import RunArchive
from msctl.runtime.service_details import service_details
from msctl.runtime.stack_parts import StackParts
from msctl.runtime.stack_reload import StackReload
from msctl.telemetry.logs.hub import STACK, LogHub

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
        self._watched = source.watched
        self._chosen = _select(project, services)
        self._first_start = FirstStart(dependency_graph.closure(project.services, self._chosen))
        self._paths = paths
        self._ending = asyncio.Event()
        self._stop_timeout = STOP_TIMEOUT
        self._broker_started = False
        self._record_file = RecordFile(paths, self._make_record)
        self._parts = parts = StackParts(
            project,
            paths,
            self._first_start,
            runs=runs,
            broker_log=broker_log,
            clock=clock,
            logs=logs,
            serve_argv=serve_argv,
            ready=self._ready_for_verbs,
        )
        self._reloading = StackReload(parts, source)
        self._queues = QueueAdmin(lambda: parts.broker.url, parts.broker.browse, parts.embedded.documents)
        self._dashboard = (
            Dashboard(
                project.dashboard,
                self,
                DashboardViews(
                    parts.observation.page,
                    traces=parts.observation.tracer,
                    queues=self._queues,
                    runs=RunArchive(runs.parent / DATABASE),
                    run=parts.run,
                    details=self,
                    routes=self,
                    faults=parts.faults,
                    api_document=parts.api_document,
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
            traces=parts.observation.tracer,
            routes=self,
            variables=self,
            definitions=parts.embedded.export,
            faults=parts.faults,
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
        parts = self._parts
        for left in kill_leftovers(self._paths.children):
            parts.logs.append(STACK, left.ended, "warning")
        if GATEWAY in self._chosen:
            parts.gateways.build(parts.project)  # checks the keys of its routes before anything starts
        parts.supervisor.reserve(self._chosen)
        parts.addresses.reserve(parts.project)
        self._record_file.write()
        parts.observation.start()
        parts.observation.record(parts.recorder)
        parts.spawn(parts.observation.keep_recording(parts.recorder, parts.clock))
        await parts.observation.receive(parts.project)
        await parts.observation.receive_openly(parts.project)
        await self._open_dashboard()

    async def up(self) -> Snapshot:
        """Start the broker, then the services; return their states when each is ready or has failed.

        The states are those of that moment: another verb may start a failed service again at once.

        Raises BrokerError if a broker that the stack runs does not start.
        """
        parts = self._parts
        with self._first_start.step(), naming_stacks(os.environ):
            await parts.broker.start()
            self._broker_started = True
            self._record_file.write()
            await parts.addresses.open(parts.project)
        self._first_start.broker_up()
        if parts.discovery is not None:
            parts.discovery.start()
        with naming_stacks(os.environ):
            await parts.supervisor.start(self._chosen)
        snapshot = await self.snapshot()
        self._first_start.services_settled(snapshot.services)
        self._record_file.write()
        if self._watched:
            files = self._reloading.watched_files
            parts.spawn(reload_on_edits(files, self.reload, clock=parts.clock, logs=parts.logs))
        return snapshot

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
        parts = self._parts
        self._first_start.abandon()
        parts.process_faults.stopping = True
        await parts.faults.clear_all("the stack stops")
        tasks = parts.cancel_tasks()
        if parts.discovery is not None:
            await parts.discovery.leave()
        await parts.supervisor.shutdown(self._stop_timeout)
        if parts.discovery is not None:
            await parts.discovery.stop()
        await parts.addresses.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await parts.broker.stop()
        if self._dashboard is not None:
            await self._dashboard.stop()
        await parts.observation.stop()
        parts.observation.record(parts.recorder, everything=True)
        await asyncio.to_thread(parts.recorder.close)
        await asyncio.to_thread(parts.files.close)
        await self._control.stop()
        self._record_file.clear()

    def kill(self) -> None:
        """Kill every child at once."""
        self._parts.supervisor.kill()

    # --- SystemView -------------------------------------------------------------------------------

    async def snapshot(self) -> Snapshot:
        return await self._parts.snapshot()

    def events(self) -> AsyncIterator[Event]:
        return self._parts.events.follow()

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        known = (*self._names, STACK, "broker")
        names = select(query.services, known) if query.services else ()
        return self._parts.logs.follow(replace(query, services=tuple(names)))

    async def start(self, services: Sequence[str], *, deps: bool = True) -> Snapshot:
        await self._ready_for_verbs()
        with naming_stacks(os.environ):
            await self._parts.supervisor.start(_select(self._parts.project, services), deps=deps)
        snapshot = await self.snapshot()
        if self._ending.is_set() and not any(one.state in FAILED for one in snapshot.services):
            raise self._first_start.stopped()
        return snapshot

    async def apply(self, services: Sequence[str]) -> None:
        self._refuse_while_ending()
        self._parts.spawn(self._apply(services))

    async def _apply(self, services: Sequence[str]) -> None:
        try:
            for name, reason in (await self.reload()).failed.items():
                self._parts.logs.append(STACK, f"{name} was not updated: {reason}", "error")
            await self.start(services)
        except MsctlError as error:
            self._parts.logs.append(STACK, f"cannot start what `up` asked for: {error.message}", "error")

    async def stop(self, services: Sequence[str]) -> Snapshot:
        await self._first_start.wait()
        await self._parts.supervisor.stop(_select(self._parts.project, services, everything=True))
        return await self.snapshot()

    async def restart(self, services: Sequence[str], *, deps: bool = True) -> Snapshot:
        await self._ready_for_verbs()
        with naming_stacks(os.environ):
            await self._parts.supervisor.restart(_select(self._parts.project, services), deps=deps)
        return await self.snapshot()

    async def scale(self, counts: Mapping[str, int]) -> Snapshot:
        await self._ready_for_verbs()
        select(list(counts), self._names)
        with naming_stacks(os.environ):
            await self._parts.supervisor.scale(counts)
        return await self.snapshot()

    async def reload(self) -> ReloadResult:
        await self._ready_for_verbs()
        # The caller may go away; a reload that has begun is completed.
        with naming_stacks(os.environ):
            return await asyncio.shield(self._parts.spawn(self._reload()))

    async def _reload(self) -> ReloadResult:
        result = await self._reloading.run()
        self._record_file.write()
        return result

    def routes(self) -> tuple[RouteSpec, ...]:
        return self._parts.gateways.running.routes

    def explain(self, method: str, target: str, headers: Mapping[str, str]) -> RouteExplanation:
        return self._parts.gateways.running.explain(method, target, headers)

    async def variables(self, service: str | None) -> ServiceVariables:
        await self._first_start.wait()
        return self._parts.supervisor.variables(
            None if service is None else _select(self._parts.project, [service])[0]
        )

    async def details(self, service: str) -> ServiceDetails:
        spec = self._parts.project.service(service)
        if spec is None:
            raise unknown(service, [one.name for one in self._parts.project.services])
        return service_details(self._parts.project, spec, self._parts.supervisor.variables(service))

    async def peek_queue(self, name: str) -> Sequence[PeekedMessage]:
        return await self._queues.look(name)

    async def purge_queue(self, name: str) -> int:
        return self._parts.broker.purge(name)

    async def delete_queue(self, name: str) -> int:
        return self._parts.broker.delete(name)

    async def shutdown(self, timeout: float | None = None) -> None:
        self.request_stop(timeout)

    # --- helpers ----------------------------------------------------------------------------------

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self._parts.project.services)

    async def _ready_for_verbs(self) -> None:
        """Wait until the broker has started. Raises NotRunningError while the stack stops."""
        await self._first_start.wait()
        self._refuse_while_ending()

    def _refuse_while_ending(self) -> None:
        if self._ending.is_set():
            raise NotRunningError(
                f"the stack of project {self._parts.project.name!r} is stopping",
                hint="wait for it to stop, then start it again with: msctl up",
            )

    def _make_record(self, pid: int, started: float) -> StackRecord:
        parts, dashboard = self._parts, self._dashboard
        addresses = [
            address
            for service in parts.supervisor.snapshot()
            if service.kind is not Kind.REMOTE
            for address in service.addresses
        ]
        return StackRecord(
            parts.project.name,
            parts.root,
            pid,
            started,
            tuple(dict.fromkeys(addresses)),
            broker_url=parts.broker.url if self._broker_started else None,
            dashboard_url=None if dashboard is None or parts.page is None else dashboard.link,
        )

    async def _open_dashboard(self) -> None:
        """Serve the dashboard; a taken port disables the dashboard, not the stack."""
        if self._dashboard is None:
            return
        try:
            self._parts.page = await self._dashboard.start()
        except PortTakenError as error:
            log.warning("%s; %s", error.message, error.hint)
        else:
            log.info("the dashboard is at %s", self._parts.page)


def _select(project: Project, patterns: Sequence[str], *, everything: bool = False) -> list[str]:
    """The services that match; without patterns, all (or all with autostart)."""
    if patterns:
        return select(patterns, [spec.name for spec in project.services])
    return [spec.name for spec in project.services if everything or spec.autostart]

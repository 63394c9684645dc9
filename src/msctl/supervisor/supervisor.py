"""The supervisor: starts, watches and stops the services of one project.

Decisions are made elsewhere (dependency_graph, policy, lifecycle); here they are carried out, in order
and side by side. Knows nothing of the command line, the gateway's rules or the broker.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from msctl.aio import first_of
from msctl.config.diff import Changes
from msctl.errors import MsctlError, UsageError
from msctl.hosting.sources import edited_since, files_of
from msctl.model import dependency_graph
from msctl.model.project import Project
from msctl.model.service_policies import Condition, Dependency
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import can_scale, check_count, stop_timeout
from msctl.model.snapshots import GATEWAY, Kind, ServiceSnapshot, State
from msctl.model.views import ServiceVariables
from msctl.processes import process_table
from msctl.supervisor.context import SupervisorContext
from msctl.supervisor.instance import Instance
from msctl.supervisor.lifecycle import AT_REST
from msctl.supervisor.reload import Reload
from msctl.supervisor.service import DesiredState, Service
from msctl.supervisor.service_table import ServiceTable, runnable, stop_all
from msctl.telemetry.logs.hub import STACK

_FAILED = frozenset({State.FATAL, State.SKIPPED, State.BACKOFF})


class Supervisor:
    """Runs the services of a project; every verb may be called while others are under way."""

    def __init__(self, project: Project, context: SupervisorContext) -> None:
        """Raises ConfigError for cycles, unknown dependencies, address clashes and replicas inside the
        stack."""
        self._table = ServiceTable(project, context)
        self._clock = context.clock
        self._ending: asyncio.Task[None] | None = None
        self._followers: set[asyncio.Task[None]] = set()
        self._table.on_restarted = self._restart_dependents

    def reserve(self, names: Sequence[str]) -> None:
        """Bind the listeners of these services and their dependencies; nothing is served yet.

        Children bind their ports themselves: declared ones are only checked to be free. Raises
        PortTakenError naming the address, its holder and the service; then nothing is bound.
        """
        self._reserve(dependency_graph.closure(self._table.project.services, names))

    async def start(self, names: Sequence[str] = (), *, deps: bool = True) -> None:
        """Start these (none named: all with autostart) and, with `deps`, their dependencies.

        Returns when each named one is ready, has completed, or has failed: `snapshot` says which. Raises
        PortTakenError before anything is started. A cancelled call leaves running what it has started.
        """
        if self._ending is not None:
            raise MsctlError("the stack is stopping", hint="start it again with: msctl up")
        asked = list(names) or [s.spec.name for s in self._table.all if s.spec.autostart]
        plan = dependency_graph.closure(self._table.project.services, asked) if deps else asked
        begun = [
            self._table[name]
            for name in plan
            # A dependency that has completed (a migration) does not run again.
            if name in asked or not self._table[name].satisfies(Condition.COMPLETED)
        ]
        self._reserve([service.spec.name for service in begun])
        for service in begun:
            service.desired_state = DesiredState.RUNNING
        await asyncio.gather(*(self._begin(service, deps=deps) for service in begun))
        for name in asked:
            service = self._table[name]
            while not service.settled():
                await self._table.change([name])

    async def stop(self, names: Sequence[str] = (), *, timeout: float | None = None) -> None:
        """Stop these (none named: all), dependents first; returns when they have stopped.

        `timeout` replaces each service's own stop_timeout. Dependents that are not named run on.
        """
        chosen = [self._table[name] for name in names] or self._table.all
        for service in chosen:
            service.desired_state = DesiredState.STOPPED
            self._table.wake(service.spec.name)
        tasks: dict[str, asyncio.Task[None]] = {}

        async def halt(service: Service) -> None:
            before = set(self._table.dependents(service.spec.name))
            if service.spec.name != GATEWAY:
                before.add(GATEWAY)  # it sends requests to all of them
            if waiting := [tasks[name] for name in before if name in tasks]:
                await asyncio.wait(waiting)
            await self._halt(service, timeout)

        for service in chosen:
            tasks[service.spec.name] = asyncio.create_task(halt(service))
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
        if self._ending is None and not any(service.should_run for service in self._table.all):
            self._table.workers.listeners.release()

    async def restart(self, names: Sequence[str] = (), *, deps: bool = True) -> None:
        """Stop and start these (none named: all that had been started), as `start` does."""
        chosen = list(names) or [s.spec.name for s in self._table.all if s.should_run]
        rolling = [name for name in chosen if names and can_roll(self._table[name])]
        at_once = [name for name in chosen if name not in rolling]
        if at_once:
            services = self._table.project.services
            self._reserve(dependency_graph.closure(services, at_once) if deps else at_once)  # before a stop
            await self.stop(at_once)
            await self.start(at_once, deps=deps)
        await asyncio.gather(*(self._roll(self._table[name]) for name in rolling))
        self._table.workers.collect()

    async def _roll(self, service: Service) -> None:
        """Restart one instance after the other, so that the others answer meanwhile."""
        async with service.lock:
            for instance in list(service.instances):
                if not service.should_run:
                    return
                await instance.stop(stop_timeout(service.spec))
                instance.begin(_no_gate)
                while instance.state not in (State.READY, *_FAILED, *AT_REST):
                    await self._table.change([service.spec.name])

    async def scale(self, counts: Mapping[str, int]) -> None:
        """Set the number of instances of these services, and start those that are not running.

        Returns as `start` does. Raises UsageError, before anything is done, for a service that cannot be
        scaled and for a count out of range, and PortTakenError. Raises MsctlError if an added instance
        fails; the counts are then as before.
        """
        for name, count in counts.items():
            spec = self._table[name].spec
            if spec.kind is Kind.REMOTE:
                raise UsageError(f"service {name!r} runs elsewhere and cannot be scaled from here")
            if not can_scale(spec):
                raise UsageError(
                    f"service {name!r} runs in the stack's own process and cannot be scaled",
                    hint=f'set isolation = "process" under [services.{name}]',
                )
            check_count(name, count)
        wanted = [name for name, count in counts.items() if count]
        self._reserve(dependency_graph.closure(self._table.project.services, wanted))
        former = {name: len(self._table[name].instances) for name in counts}
        await self._resize(counts)
        if wanted:
            await self.start(wanted)
        added = [i for name, count in former.items() for i in self._table[name].instances[count:]]
        if failed := next((i for i in added if i.state in _FAILED), None):
            why = f"{failed.name} is {failed.state.value}: {failed.snapshot().reason}"
            await self._resize({name: count for name, count in former.items() if counts[name] > count})
            raise MsctlError(
                f"service {failed.spec.name!r} was not scaled: {why}",
                hint="an added instance must listen on the port in $PORT"
                if failed.spec.port
                else f"see its log with: msctl logs {failed.spec.name}",
            )

    async def _resize(self, counts: Mapping[str, int]) -> None:
        await asyncio.gather(*(self._table.resize(self._table[name], n) for name, n in counts.items()))

    def variables(self, name: str | None) -> ServiceVariables:
        """The variables for a command beside a service; with None, for one that depends on all services."""
        if name is not None:
            return self._table.workers.variables(self._table[name].spec)
        everything = tuple(Dependency(spec.name) for spec in self._table.project.services)
        return self._table.workers.variables(ServiceSpec("run", depends_on=everything))

    def edited(self) -> list[str]:
        """The started services with a source file edited since their start."""
        found = []
        for service in self._table.all:
            times = [i.launched_at for i in service.instances if i.launched_at is not None]
            if service.should_run and times and edited_since(self._files(service.spec), min(times)):
                found.append(service.spec.name)
        return found

    def files(self) -> set[Path]:
        """The source files of all services in the project's folder."""
        return {file for service in self._table.all for file in self._files(service.spec)}

    def prepare(self, project: Project, changes: Changes) -> Reload:
        """Check that the project can become this one, and bind the listeners that needs.

        Raises ConfigError and PortTakenError; then nothing has changed.
        """
        reload = Reload(self._table, runnable(project), changes, start=self.start)
        reload.reserve()
        return reload

    async def shutdown(self, timeout: float = 30.0) -> None:
        """Stop everything, dependents first, and kill the rest after `timeout` seconds.

        May be called again, also concurrently: the shortest timeout counts.
        """
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await first_of(asyncio.shield(self._ending), self._clock.sleep(timeout))
        if not self._ending.done():
            self.kill()
        await asyncio.shield(self._ending)

    def kill(self) -> None:
        """Kill every child and its descendants now, without waiting."""
        for service in self._table.all:
            for instance in (*service.instances, *service.replacements):
                instance.kill()
        workers = self._table.workers
        if workers.watchdog.pid is not None:
            for mark, pids in process_table.read_table().marks.items():
                if mark.startswith(f"{workers.token}:"):
                    process_table.signal_all(pids, signal.SIGKILL)

    def snapshot(self) -> tuple[ServiceSnapshot, ...]:
        """Every service as it is now, in the order of declaration, with its processes' usage."""
        sessions = process_table.sessions() if self._table.workers.watchdog.pid is not None else {}
        now = self._clock.monotonic()
        return tuple(service.snapshot(now, sessions) for service in self._table.all)

    def is_absent(self, name: str) -> bool:
        """Whether a service did not start because there is no such program or application."""
        return any(instance.absent for instance in self._table[name].instances)

    def _restart_dependents(self, name: str) -> None:
        """Restart the running services that depend on this one with `restart`."""
        names = [
            dependent
            for dependent in self._table.dependents(name)
            if (service := self._table.services.get(dependent)) is not None
            and service.should_run
            and service.state in (State.RUNNING, State.READY, State.UNHEALTHY)
            and any(d.service == name and d.restart for d in service.spec.depends_on)
        ]
        if names and self._ending is None:
            task = asyncio.create_task(self._follow(name, names), name=f"dependents of {name}")
            self._followers.add(task)
            task.add_done_callback(self._followers.discard)

    async def _follow(self, name: str, names: Sequence[str]) -> None:
        log = self._table.context.logs
        log.append(STACK, f"restarting {', '.join(names)}, since {name} was restarted")
        await asyncio.gather(*(self._restart_one(self._table[name]) for name in names))

    async def _restart_one(self, service: Service) -> None:
        """Stop and begin it again, unless somebody stops it meanwhile."""
        async with service.lock:
            await stop_all(service.instances, stop_timeout(service.spec))
            if not service.should_run:
                return
            try:
                self._reserve([service.spec.name])
            except MsctlError as error:
                service.desired_state = DesiredState.STOPPED
                text = f"cannot restart {service.spec.name}: {error.message}"
                self._table.context.logs.append(STACK, text, "error")
                return
            for instance in service.instances:
                instance.begin(_no_gate)

    async def _end(self) -> None:
        for task in self._followers:
            task.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        try:
            await self.stop()
        finally:
            await self._table.workers.close()

    def _reserve(self, names: Sequence[str]) -> None:
        services = [self._table[name] for name in names]
        at_rest = [one for one in services if all(i.state in AT_REST for i in one.instances)]
        self._table.workers.reserve([service.spec for service in at_rest])

    def _files(self, spec: ServiceSpec) -> frozenset[Path]:
        root = self._table.project.root
        return frozenset() if root is None else files_of(spec, root)

    async def _begin(self, service: Service, *, deps: bool) -> None:
        async with service.lock:
            if not service.should_run:
                return  # stopped while an earlier stop was still under way
            for instance in service.instances:
                instance.begin(self._table.gate if deps else _no_gate)

    async def _halt(self, service: Service, timeout: float | None) -> None:
        async with service.lock:
            if service.should_run:
                return  # started again while this stop waited for its dependents
            limit = stop_timeout(service.spec) if timeout is None else timeout
            # An interrupted reload may have left replacements.
            await stop_all((*service.instances, *service.replacements), limit)


def can_roll(service: Service) -> bool:
    """Whether its instances can be restarted in turn: there are several, and they serve requests."""
    return len(service.instances) > 1 and service.state is State.READY and not service.spec.oneshot


async def _no_gate(_instance: Instance) -> None:
    return None

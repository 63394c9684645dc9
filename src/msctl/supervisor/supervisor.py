"""The supervisor: starts, watches and stops the services of one project.

Decisions are elsewhere (graph, policy, lifecycle); here they are carried out, in order and side by
side. Knows nothing of the command line, the gateway's rules or the broker.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aiohttp import web

from msctl.aio import first_of
from msctl.clock import AsyncClock
from msctl.config.diff import Changes
from msctl.discovery.registry import Registry
from msctl.errors import MsctlError, UsageError
from msctl.hosting.aiohttp_app import HostedFactory, Instrument
from msctl.hosting.sources import edited_since, files_of
from msctl.http.listener import TlsContext
from msctl.model import dependency_graph, services
from msctl.model.project import Condition, Project, ServiceSpec
from msctl.model.services import stop_timeout
from msctl.model.snapshots import GATEWAY, Event, Kind, ServiceSnapshot, State
from msctl.processes import process_table
from msctl.supervisor.instance import Instance
from msctl.supervisor.lifecycle import AT_REST
from msctl.supervisor.reload import Reload
from msctl.supervisor.service import Service
from msctl.supervisor.workers import ChildEnv, Workers
from msctl.telemetry.logs.hub import LogHub


class Supervisor:
    """Runs the services of a project; every verb may be called while others are under way."""

    def __init__(
        self,
        project: Project,
        *,
        clock: AsyncClock,
        logs: LogHub,
        registry: Registry,
        builtin: Mapping[str, HostedFactory],
        amqp_url: Callable[[], str],
        on_event: Callable[[Event], None],
        serve_argv: Callable[[str, str], Sequence[str]] | None = None,
        pid_file: Path | None = None,
        instance_name: Callable[[str, int], str] = "{}-{}".format,
        instrument: Instrument | None = None,
        server: type[web.Server] = web.Server,
        tls: TlsContext | None = None,
        child_env: ChildEnv | None = None,
    ) -> None:
        """`builtin` are the hosted services that have no import path (the gateway).

        `serve_argv(service, instance)` is the command that runs one hosted service in a process of
        its own; `pid_file` is the file in which children are recorded (see pid_file.leftovers);
        `instrument` sees the requests and messages of hosted services; `tls` is for what listens on the
        gateway's address, if that speaks HTTPS; `child_env` adds to the environment of children. Raises
        ConfigError for cycles, unknown dependencies, clashing addresses and what cannot be scaled.
        """
        project = services.as_run(project)
        dependency_graph.check(project.services, project.source)
        services.check(project)
        self._project = project
        self._clock = clock
        self._logs = logs
        self._registry = registry
        self._on_event = on_event
        self._instance_name = instance_name
        self._workers = Workers(
            project,
            clock=clock,
            logs=logs,
            builtin=builtin,
            amqp_url=amqp_url,
            serve_argv=serve_argv,
            pid_file=pid_file,
            instrument=instrument,
            server=server,
            tls=tls,
            child_env=child_env,
        )
        self._dependents = dependency_graph.dependents(project.services)
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._seq = 0
        self._ending: asyncio.Task[None] | None = None
        self._services = {spec.name: Service(spec) for spec in project.services}
        for service in self._services.values():
            service.instances += [self._instance(service.spec, n + 1) for n in range(service.spec.replicas)]

    def reserve(self, names: Sequence[str]) -> None:
        """Bind what these services, and those that they need, listen on; nothing is served yet.

        Children bind their ports themselves: those that are declared are only seen to be free.
        Raises PortTakenError naming the address, its holder and the service; then nothing is bound.
        """
        self._reserve(dependency_graph.closure(self._project.services, names))

    async def start(self, names: Sequence[str] = (), *, deps: bool = True) -> None:
        """Start these (none named: all that start by themselves) and, with `deps`, what they need.

        Returns when each that was asked for is ready, has completed, or will not be: `snapshot`
        says which. Raises PortTakenError before anything is started. Cancelling the call leaves
        what it has begun to itself.
        """
        if self._ending is not None:
            raise MsctlError("the stack is stopping", hint="start it again with: msctl up")
        asked = list(names) or [s.spec.name for s in self._services.values() if s.spec.autostart]
        plan = dependency_graph.closure(self._project.services, asked) if deps else asked
        begun = [
            self._services[name]
            for name in plan
            # What was only pulled in and has completed (a migration) is not run again.
            if name in asked or not self._services[name].satisfies(Condition.COMPLETED)
        ]
        self._reserve([service.spec.name for service in begun])
        for service in begun:
            service.wanted = True
        await asyncio.gather(*(self._begin(service, deps=deps) for service in begun))
        for name in asked:
            service = self._services[name]
            while not service.settled():
                await self._change([name])

    async def stop(self, names: Sequence[str] = (), *, timeout: float | None = None) -> None:
        """Stop these (none named: all), dependents first; returns when they have ended.

        `timeout` replaces each service's own stop_timeout. What depends on them runs on.
        """
        chosen = [self._services[name] for name in names] or list(self._services.values())
        for service in chosen:
            service.wanted = False
            self._wake(service.spec.name)
        tasks: dict[str, asyncio.Task[None]] = {}

        async def halt(service: Service) -> None:
            before = set(self._dependents.get(service.spec.name, ()))
            if service.spec.name != GATEWAY:
                before.add(GATEWAY)  # it takes requests for all of them
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
        if self._ending is None and not any(s.wanted for s in self._services.values()):
            self._workers.listeners.release()

    async def restart(self, names: Sequence[str] = (), *, deps: bool = True) -> None:
        """Stop and start these (none named: all that had been started), as `start` does."""
        chosen = list(names) or [s.spec.name for s in self._services.values() if s.wanted]
        if chosen:
            await self.stop(chosen)
            await self.start(chosen, deps=deps)

    async def scale(self, counts: Mapping[str, int]) -> None:
        """Run so many instances of each of these services, and start those that are not running.

        Returns as `start` does. Raises UsageError, before anything is done, for a service that runs
        inside the stack (it has one instance) and for a count below 0.
        """
        for name, count in counts.items():
            if self._services[name].spec.kind is Kind.REMOTE:
                raise UsageError(f"service {name!r} runs elsewhere and is not scaled from here")
            if not services.can_scale(self._services[name].spec):
                raise UsageError(
                    f"service {name!r} runs inside the stack's own process and cannot be scaled",
                    hint=f'set isolation = "process" under [services.{name}]',
                )
            if count < 0:
                raise UsageError(f"{name}={count}: a service cannot have less than 0 instances")
        await asyncio.gather(*(self._resize(self._services[name], count) for name, count in counts.items()))
        if grown := [name for name, count in counts.items() if count]:
            await self.start(grown)

    def edited(self) -> list[str]:
        """Those of the services that were started whose source was edited since."""
        found = []
        for service in self._services.values():
            times = [i.launched_at for i in service.instances if i.launched_at is not None]
            if service.wanted and times and edited_since(self._files(service.spec), min(times)):
                found.append(service.spec.name)
        return found

    def files(self) -> set[Path]:
        """The source files of all services, as far as they lie in the project."""
        return {file for service in self._services.values() for file in self._files(service.spec)}

    def prepare(self, project: Project, changes: Changes) -> Reload:
        """See that the project can become this one, and bind what that needs.

        Raises ConfigError and PortTakenError; then nothing has changed.
        """
        project = services.as_run(project)
        dependency_graph.check(project.services, project.source)
        services.check(project)
        reload = Reload(
            self._project,
            project,
            changes,
            services=self._services,
            workers=self._workers,
            registry=self._registry,
            make=self._instance,
            changed=self._changed,
            gate=self._gate,
            change=self._change,
            wake=self._wake,
            resize=self._resize,
            start=self.start,
        )
        reload.reserve()
        return reload

    async def apply(self, reload: Reload) -> Mapping[str, str]:
        """Carry out what was prepared, but for what is removed; which services failed, and why."""
        self._project = reload.project
        self._dependents = {**self._dependents, **dependency_graph.dependents(reload.project.services)}
        try:
            await reload.apply()
        finally:
            self._project = reload.project
        return reload.failed

    async def shutdown(self, timeout: float = 30.0) -> None:
        """Stop everything, dependents first, and kill what is left after `timeout` seconds.

        May be called again, also at the same time: the shortest timeout counts.
        """
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await first_of(asyncio.shield(self._ending), self._clock.sleep(timeout))
        if not self._ending.done():
            self.kill()
        await asyncio.shield(self._ending)

    def kill(self) -> None:
        """End every child and all that they forked, now, without waiting for anything."""
        for service in self._services.values():
            for instance in (*service.instances, *service.beside):
                instance.kill()
        if self._workers.watchdog.pid is not None:
            for mark, pids in process_table.read_table().marks.items():
                if mark.startswith(f"{self._workers.token}:"):
                    process_table.signal_all(pids, signal.SIGKILL)

    def snapshot(self) -> tuple[ServiceSnapshot, ...]:
        """Every service as it is now, in the order of declaration, with what its processes use."""
        sessions = process_table.sessions() if self._workers.watchdog.pid is not None else {}
        now = self._clock.monotonic()
        return tuple(service.snapshot(now, sessions) for service in self._services.values())

    async def _end(self) -> None:
        try:
            await self.stop()
        finally:
            await self._workers.close()

    def _reserve(self, names: Sequence[str]) -> None:
        self._workers.reserve(
            [self._services[name].spec for name in names if self._services[name].state in AT_REST]
        )

    def _files(self, spec: ServiceSpec) -> frozenset[Path]:
        root = self._project.root
        return frozenset() if root is None else files_of(spec, root)

    # --- one service --------------------------------------------------------------------------

    async def _begin(self, service: Service, *, deps: bool) -> None:
        async with service.lock:
            if not service.wanted:
                return  # it was stopped while a former stop was still under way
            for instance in service.instances:
                instance.begin(self._gate if deps else _no_gate)

    async def _halt(self, service: Service, timeout: float | None) -> None:
        async with service.lock:
            if service.wanted:
                return  # it was started again while this stop waited for its dependents
            limit = stop_timeout(service.spec) if timeout is None else timeout
            # A reload that was cut short may have left some beside.
            ending = (*service.instances, *service.beside)
            await asyncio.gather(*(instance.stop(limit) for instance in ending))

    async def _resize(self, service: Service, count: int) -> None:
        async with service.lock:
            while len(service.instances) < count:
                service.instances.append(self._instance(service.spec, len(service.instances) + 1))
            surplus = service.instances[count:]
            limit = stop_timeout(service.spec)
            await asyncio.gather(*(instance.stop(limit) for instance in surplus))
            del service.instances[count:]
            for instance in surplus:
                self._workers.forget(instance.name)
        self._wake(service.spec.name)

    async def _gate(self, instance: Instance) -> str | None:
        """Wait for what the instance depends on; why it cannot be had, or None."""
        while True:
            waiting: list[str] = []
            for dependency in instance.spec.depends_on:
                other = self._services[dependency.service]
                if other.satisfies(dependency.condition):
                    continue
                if (why := other.hopeless()) is not None:
                    return why
                waiting.append(dependency.service)
            if not waiting:
                return None
            instance.wait_for(f"waiting on {', '.join(waiting)}")
            await self._change(waiting)

    async def _change(self, names: Sequence[str]) -> None:
        """Return at the next change of one of these services."""
        future = asyncio.get_running_loop().create_future()
        for name in names:
            self._waiters.setdefault(name, set()).add(future)
        try:
            await future
        finally:
            for name in names:
                self._waiters.get(name, set()).discard(future)

    def _wake(self, service: str) -> None:
        for future in self._waiters.pop(service, ()):
            if not future.done():
                future.set_result(None)

    # --- one instance -------------------------------------------------------------------------

    def _instance(self, spec: ServiceSpec, number: int) -> Instance:
        name = self._instance_name(spec.name, number)
        return Instance(
            spec,
            name,
            lambda declared: self._workers.make(declared, name),
            clock=self._clock,
            registry=self._registry,
            logs=self._logs,
            chance=random.random,
            changed=self._changed,
        )

    def _changed(self, instance: Instance) -> None:
        self._seq += 1
        reason = instance.snapshot().reason if instance.state is State.BACKOFF else instance.reason
        self._on_event(
            Event(self._seq, self._clock.time(), instance.spec.name, instance.name, instance.state, reason)
        )
        self._wake(instance.spec.name)


async def _no_gate(_instance: Instance) -> None:
    return None

"""The supervisor: starts, watches and stops the services of one project.

Decisions are elsewhere (graph, policy, lifecycle); here they are carried out, in order and side by
side. Knows nothing of the command line, the gateway's rules or the broker.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msctl.clock import AsyncClock
from msctl.discovery.registry import Registry
from msctl.errors import MsctlError
from msctl.model import (
    GATEWAY,
    Condition,
    Event,
    Project,
    ServiceContext,
    ServiceSnapshot,
    ServiceSpec,
    State,
)
from msctl.supervisor import graph, listener
from msctl.supervisor.environment import environment
from msctl.supervisor.hosted import AiohttpApp, HostedApp, HostedFactory
from msctl.supervisor.hosting import HostedWorker
from msctl.supervisor.instance import Instance
from msctl.supervisor.lifecycle import AT_REST, SETTLED, together
from msctl.supervisor.listener import Listeners
from msctl.supervisor.modules import Loader
from msctl.supervisor.ports import Address
from msctl.supervisor.worker import Worker
from msctl.telemetry.logs import LogHub


@dataclass(eq=False, slots=True)
class _Service:
    """A service of the project, and the instances of it that there are."""

    spec: ServiceSpec
    instances: list[Instance] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: bool = False
    """Somebody asked for it and nobody has stopped it since."""

    @property
    def state(self) -> State:
        return together(tuple(i.state for i in self.instances))

    @property
    def reason(self) -> str:
        return next((i.reason for i in self.instances if i.state is self.state and i.reason), "")


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
    ) -> None:
        """`builtin` are the hosted services that have no import path (the gateway).

        `serve_argv(service, instance)` is the command that runs one hosted service in a process of
        its own. Raises ConfigError for cycles, unknown dependencies and clashing addresses.
        """
        graph.check(project.services, project.source)
        listener.check_clashes(project)
        self._project = project
        self._clock = clock
        self._logs = logs
        self._registry = registry
        self._builtin = builtin
        self._amqp_url = amqp_url
        self._on_event = on_event
        self._serve_argv = serve_argv
        self._loader = Loader(project.root)
        self._listeners = Listeners(project)
        self._dependents = graph.dependents(project.services)
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._seq = 0
        self._ending: asyncio.Task[None] | None = None
        self._services = {spec.name: _Service(spec) for spec in project.services}
        for service in self._services.values():
            service.instances.append(self._instance(service.spec, 1))

    def reserve(self, names: Sequence[str]) -> None:
        """Bind what these services, and those that they need, listen on; nothing is served yet.

        Raises PortTakenError naming the address, its holder and the service; then nothing is bound.
        """
        self._listeners.reserve(graph.closure(self._project.services, names))

    async def start(self, names: Sequence[str] = (), *, deps: bool = True) -> None:
        """Start these (none named: all that start by themselves) and, with `deps`, what they need.

        Returns when each that was asked for is ready, has completed, or will not be: `snapshot`
        says which. Raises PortTakenError before anything is started. Cancelling the call leaves
        what it has begun to itself.
        """
        if self._ending is not None:
            raise MsctlError("The stack is stopping.", hint="Start it again with: msctl up")
        asked = list(names) or [s.spec.name for s in self._services.values() if s.spec.autostart]
        plan = graph.closure(self._project.services, asked) if deps else asked
        begun = [
            self._services[name]
            for name in plan
            if name in asked or not self._satisfies(self._services[name], Condition.COMPLETED)
        ]
        idle = [s.spec.name for s in begun if not s.wanted or s.state in AT_REST]
        self._listeners.reserve(idle)
        for service in begun:
            service.wanted = True
        await asyncio.gather(*(self._begin(service, deps=deps) for service in begun))
        for name in asked:
            await self._until(self._services[name], _settled)

    async def stop(self, names: Sequence[str] = (), *, timeout: float | None = None) -> None:
        """Stop these (none named: all), dependents first; returns when they have ended.

        `timeout` replaces each service's own stop_timeout. What depends on them runs on.
        """
        chosen = [self._services[name] for name in names] or list(self._services.values())
        for service in chosen:
            service.wanted = False
        tasks: dict[str, asyncio.Task[None]] = {}

        async def halt(service: _Service) -> None:
            before = set(self._dependents[service.spec.name])
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
            self._listeners.release()

    async def restart(self, names: Sequence[str], *, deps: bool = True) -> None:
        """Stop and start these; with `deps`, what they need is started too where it does not run."""
        await self.stop(names)
        await self.start(names, deps=deps)

    async def shutdown(self, timeout: float = 30.0) -> None:
        """Stop everything, dependents first, and kill what is left after `timeout` seconds.

        May be called again, also at the same time: the shortest timeout counts.
        """
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        deadline = asyncio.ensure_future(self._clock.sleep(timeout))
        try:
            await asyncio.wait({self._ending, deadline}, return_when=asyncio.FIRST_COMPLETED)
            if not self._ending.done():
                self.kill()
            await asyncio.shield(self._ending)
        finally:
            deadline.cancel()
            await asyncio.gather(deadline, return_exceptions=True)

    def kill(self) -> None:
        """End every child now, without waiting for anything."""
        for service in self._services.values():
            for instance in service.instances:
                instance.kill()

    def snapshot(self) -> tuple[ServiceSnapshot, ...]:
        """Every service as it is now, in the order of declaration."""
        return tuple(self._describe(service) for service in self._services.values())

    async def _end(self) -> None:
        try:
            await self.stop()
        finally:
            self._listeners.release()

    def _describe(self, service: _Service) -> ServiceSnapshot:
        instances = tuple(i.snapshot() for i in service.instances)
        state = service.state
        spec = service.spec
        reason = next((i.reason for i in instances if i.state is state and i.reason), "")
        if len(instances) > 1 and state is not State.READY:
            ready = sum(i.state is State.READY for i in instances)
            culprit = next(i for i in instances if i.state is state)
            reason = f"{ready} of {len(instances)} ready; {culprit.name}: {culprit.reason or culprit.state}"
        uptimes = [i.uptime_s for i in instances if i.uptime_s is not None]
        return ServiceSnapshot(
            name=spec.name,
            kind=spec.kind,
            state=state,
            reason=reason,
            addresses=tuple(i.address for i in instances if i.address),
            routes=tuple(route.path for route in spec.routes),
            pid=instances[0].pid if len(instances) == 1 else None,
            uptime_s=max(uptimes, default=None),
            restarts=sum(i.restarts for i in instances),
            instances=instances,
        )

    # --- one service --------------------------------------------------------------------------

    async def _begin(self, service: _Service, *, deps: bool) -> None:
        async with service.lock:
            if not service.wanted:
                return  # it was stopped while a former stop was still under way
            for instance in service.instances:
                instance.begin(self._gate if deps else _no_gate)

    async def _halt(self, service: _Service, timeout: float | None) -> None:
        async with service.lock:
            if service.wanted:
                return  # it was started again while this stop waited for its dependents
            await asyncio.gather(
                *(
                    i.stop(stop_time(service.spec, self._project) if timeout is None else timeout)
                    for i in service.instances
                )
            )

    async def _gate(self, instance: Instance) -> str | None:
        """Wait for what the instance depends on; why it cannot be had, or None."""
        while True:
            waiting: list[str] = []
            for dependency in instance.spec.depends_on:
                other = self._services[dependency.service]
                if self._satisfies(other, dependency.condition):
                    continue
                if (why := _hopeless(other)) is not None:
                    return why
                waiting.append(dependency.service)
            if not waiting:
                return None
            instance.wait_for(f"waiting on {', '.join(waiting)}")
            await self._change(waiting)

    def _satisfies(self, service: _Service, condition: Condition) -> bool:
        states = {i.state for i in service.instances}
        completed = states == {State.EXITED}
        if condition is Condition.COMPLETED:
            return completed
        if condition is Condition.READY:
            return states == {State.READY} or (service.spec.oneshot and completed)
        return states <= {State.RUNNING, State.READY, State.UNHEALTHY, State.EXITED}

    async def _until(self, service: _Service, predicate: Callable[[_Service], bool]) -> None:
        while not predicate(service):
            await self._change([service.spec.name])

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

    def _changed(self, instance: Instance) -> None:
        self._seq += 1
        reason = instance.snapshot().reason if instance.state is State.BACKOFF else instance.reason
        event = Event(
            self._seq, self._clock.time(), instance.spec.name, instance.name, instance.state, reason
        )
        self._on_event(event)
        for future in self._waiters.pop(instance.spec.name, ()):
            if not future.done():
                future.set_result(None)

    # --- one instance -------------------------------------------------------------------------

    def _instance(self, spec: ServiceSpec, number: int) -> Instance:
        name = f"{spec.name}-{number}"
        return Instance(
            spec,
            name,
            lambda: self._worker(spec, name),
            clock=self._clock,
            registry=self._registry,
            logs=self._logs,
            chance=random.random,
            changed=self._changed,
        )

    def _worker(self, spec: ServiceSpec, name: str) -> Worker:
        address = self._locate(spec.name)
        env = environment(
            spec, self._project, address=address, amqp_url=self._amqp_url(), locate=self._locate
        )
        context = ServiceContext(
            name=spec.name,
            instance=name,
            host=address.host if address else spec.host,
            port=address.port if address else None,
            amqp_url=env["AMQP_URL"],
            env=env,
        )
        return HostedWorker(
            self._builtin.get(spec.name, self._application(spec)),
            context,
            listener=self._listeners.get(spec.name),
            prefixes=tuple(route.path for route in spec.routes),
            logs=self._logs,
            clock=self._clock,
        )

    def _application(self, spec: ServiceSpec) -> HostedFactory:
        def make(context: ServiceContext) -> HostedApp:
            if spec.app is None:
                raise MsctlError(f"Service {spec.name!r} has neither an app nor a command.")
            return AiohttpApp(spec.app, context, loader=self._loader, logs=self._logs, clock=self._clock)

        return make

    def _locate(self, name: str) -> Address | None:
        found = self._listeners.get(name)
        return None if found is None else found.address


_DRAIN_S = 5.0
_DEFAULT_STOP_S = 10.0


def stop_time(spec: ServiceSpec, project: Project) -> float:
    """How long a service may take to stop: its own stop_timeout where it has set one.

    By default that is the gateway's drain timeout for the gateway, 5 s for a hosted service (its
    requests have nowhere else to be), and 10 s for a process.
    """
    if spec.name == GATEWAY and project.gateway is not None:
        return project.gateway.drain_timeout
    if listener.runs_here(spec) and spec.stop_timeout == _DEFAULT_STOP_S:
        return _DRAIN_S
    return spec.stop_timeout


def _settled(service: _Service) -> bool:
    return all(
        i.state in SETTLED and not (i.state is State.STOPPED and service.wanted) for i in service.instances
    )


def _hopeless(service: _Service) -> str | None:
    """Why waiting for this service is in vain, or None."""
    name, state, reason = service.spec.name, service.state, service.reason
    if state in (State.FATAL, State.SKIPPED, State.EXITED):
        word = {State.FATAL: "failed", State.SKIPPED: "was skipped", State.EXITED: "has ended"}[state]
        return f"{name} {word}: {reason}" if reason else f"{name} {word}"
    if state is State.STOPPED and not service.wanted:
        return f"{name} is stopped"
    return None


async def _no_gate(_instance: Instance) -> None:
    return None

"""The services of a running project and their instances: the state that the supervisor's verbs and
reload share.

Waiting is by name: whoever waits for a change of a service is woken by the next event of any of its
instances (`wake`), and looks again. No waiter relies on having seen every event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from msctl.model import dependency_graph, services
from msctl.model.events import Event
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import stop_timeout
from msctl.model.snapshots import State
from msctl.supervisor.context import SupervisorContext
from msctl.supervisor.instance import Instance
from msctl.supervisor.service import Service
from msctl.supervisor.workers import Workers


class ServiceTable:
    """Every service of `project` by its name, in the order of declaration."""

    def __init__(self, project: Project, context: SupervisorContext) -> None:
        """Raises ConfigError for a project that cannot run (see `runnable`)."""
        self.project = runnable(project)
        self.context = context
        self.workers = Workers(self.project, context)
        self.services = {spec.name: Service(spec) for spec in self.project.services}
        self._dependents = dependency_graph.dependents(self.project.services)
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._seq = 0
        self._ready_since: dict[str, float | None] = {}
        self.on_restarted: Callable[[str], None] = lambda _service: None
        """Called with a service of which an instance is ready again after another start."""
        for service in self.services.values():
            service.instances += self.make_instances(service.spec, service.spec.replicas)

    def __getitem__(self, name: str) -> Service:
        return self.services[name]

    @property
    def all(self) -> list[Service]:
        return list(self.services.values())

    def dependents(self, name: str) -> Sequence[str]:
        """The services that depend on this one, now or before the last reload."""
        return self._dependents.get(name, ())

    def adopt(self, project: Project) -> None:
        """Take `project` as the running one. Services stay as they are; reload changes them."""
        self.project = project
        self._dependents = {**self._dependents, **dependency_graph.dependents(project.services)}
        self.workers.adopt(project)

    def make_instances(self, spec: ServiceSpec, count: int, first: int = 1) -> list[Instance]:
        """New instances at rest, numbered from `first`."""
        return [self._make_instance(spec, number) for number in range(first, first + count)]

    async def resize(self, service: Service, count: int) -> None:
        """Add instances at rest, or stop and remove the last ones; returns when they have stopped."""
        async with service.lock:
            present = len(service.instances)
            service.instances += self.make_instances(service.spec, count - present, present + 1)
            surplus = service.instances[count:]
            await stop_all(surplus, stop_timeout(service.spec))
            del service.instances[count:]
            for instance in surplus:
                self.workers.forget(instance.name)
        self.wake(service.spec.name)

    async def gate(self, instance: Instance) -> str | None:
        """Wait for the dependencies of an instance; return why one of them cannot be had, or None."""
        while True:
            waiting: list[str] = []
            for dependency in instance.spec.depends_on:
                other = self.services[dependency.service]
                if other.satisfies(dependency.condition):
                    continue
                if (reason := other.blocked_reason()) is not None:
                    return reason
                waiting.append(dependency.service)
            if not waiting:
                return None
            instance.wait_for(f"waiting on {', '.join(waiting)}")
            await self.change(waiting)

    async def change(self, names: Sequence[str]) -> None:
        """Return at the next change of one of these services."""
        future = asyncio.get_running_loop().create_future()
        for name in names:
            self._waiters.setdefault(name, set()).add(future)
        try:
            await future
        finally:
            for name in names:
                self._waiters.get(name, set()).discard(future)

    def wake(self, service: str) -> None:
        """Let those that wait for a change of `service` look again."""
        for future in self._waiters.pop(service, ()):
            if not future.done():
                future.set_result(None)

    def on_change(self, instance: Instance) -> None:
        """Report the new state or reason of an instance that others see."""
        self._seq += 1
        reason = instance.snapshot().reason if instance.state is State.BACKOFF else instance.reason
        now = self.context.clock.time()
        self.context.on_event(
            Event(self._seq, now, instance.spec.name, instance.name, instance.state, reason)
        )
        self.wake(instance.spec.name)
        if instance.state is State.READY:
            former = self._ready_since.get(instance.name, instance.launched_at)
            self._ready_since[instance.name] = instance.launched_at
            if former != instance.launched_at:
                self.on_restarted(instance.spec.name)

    def _make_instance(self, spec: ServiceSpec, number: int) -> Instance:
        name = self.context.instance_name(spec.name, number)
        return Instance(
            spec,
            name,
            lambda declared: self.workers.make(declared, name),
            clock=self.context.clock,
            registry=self.context.registry,
            logs=self.context.logs,
            chance=self.context.chance,
            changed=self.on_change,
        )


def runnable(project: Project) -> Project:
    """The project as it runs. Raises ConfigError for cycles, unknown dependencies, address clashes and
    replicas inside the stack."""
    project = services.as_run(project)
    dependency_graph.check(project.services, project.source)
    services.check(project)
    return project


async def stop_all(instances: Sequence[Instance], timeout: float) -> None:
    """Stop these side by side; returns when all have ended."""
    await asyncio.gather(*(instance.stop(timeout) for instance in instances))

"""Reload: turns a running project into an edited one; only what changed is started again.

A replacement starts beside the instance that it replaces, withdrawn: neither the registry nor events
know it. Once it is ready it is announced under the same name in one step, and the former one stops. A
replacement that does not become ready leaves everything as it was.

Two processes cannot hold one declared port, and an address that dependents found in their environment
must not move. There the former instance is stopped first (`_in_place`), and started again if its
replacement fails. Live keys do not get here as changes: `_reconfigure` hands them to running instances.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msctl import ports
from msctl.config.diff import Changes, without
from msctl.errors import MsctlError
from msctl.http.listener import Listener
from msctl.model import dependency_graph
from msctl.model.address import Address
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import address_of, runs_here, stop_timeout
from msctl.model.snapshots import Kind, State
from msctl.supervisor.instance import Instance
from msctl.supervisor.service import DesiredState, Service
from msctl.supervisor.service_table import ServiceTable, stop_all

_SERVING = frozenset({State.RUNNING, State.READY, State.UNHEALTHY})
_FAILED = frozenset({State.FATAL, State.SKIPPED, State.BACKOFF, State.EXITED})
_LOST = frozenset({State.FATAL, State.SKIPPED, State.BACKOFF})

Start = Callable[[Sequence[str]], Awaitable[None]]


class Reload:
    """One change of the services of `table` to those of `new`; `start` is Supervisor.start."""

    def __init__(self, table: ServiceTable, new: Project, changes: Changes, *, start: Start) -> None:
        self.project = new
        """The result: services that failed are in it as they were."""
        self.failed: dict[str, str] = {}
        self._table = table
        self._old = table.project
        self._changes = changes
        self._start = start
        self._listeners = table.workers.listeners.plan(new)
        self._dependents = dependency_graph.dependents(new.services)

    def reserve(self) -> None:
        """Bind the new listeners, and check that the new ports of children are free.

        Raises PortTakenError; then nothing is bound, and nothing has changed.
        """
        leaving = self._leaving_addresses()
        bound: list[Listener] = []
        try:
            for name in (*self._changes.restarted, *self._changes.added):
                spec = self._spec(name)
                address = address_of(spec, self.project)
                held = address is not None and any(address.overlaps(other) for other in leaving)
                if address is None or held or not self._starts(spec) or self._in_place(spec):
                    continue
                listener = self._listeners.get(name)
                if listener is None:
                    if address.port and address != self._address(self._old, name):
                        ports.probe_free(address, name)
                elif not listener.bound:
                    listener.reserve(name)
                    bound.append(listener)
        except BaseException:
            for listener in bound:
                listener.release()
            raise

    async def apply(self) -> Mapping[str, str]:
        """Apply live keys and start what is new or changed, dependencies first.

        Returns the services that failed, each with the reason. Removed services run on until `finish`,
        unless their address is needed.
        """
        self._table.adopt(self.project)
        try:
            await self._apply()
        finally:
            self._table.adopt(self.project)
        return self.failed

    async def _apply(self) -> None:
        changes, workers, table = self._changes, self._table.workers, self._table
        for name in changes.added:
            service = table.services[name] = Service(self._spec(name))
            service.instances += table.make_instances(service.spec, service.spec.replicas)
        for spec in self.project.services:
            if spec.name not in (*changes.added, *changes.restarted):
                self._reconfigure(table[spec.name], spec)
        for name in changes.added:
            workers.listeners.assign(name, self._listeners.get(name))
        workers.listeners.set_hosts(self.project)
        if any(runs_here(self._spec(name)) for name in (*changes.added, *changes.restarted)):
            workers.reload_modules()
        if self._needs_a_leaving_address():
            await self._retire()
        for name in changes.scaled:
            await table.resize(table[name], self._spec(name).replicas)
        chosen = [
            name
            for name in (*changes.restarted, *changes.added)
            if name in changes.restarted or self._starts(self._spec(name))
        ]
        for wave in dependency_graph.waves(self.project.services, chosen):
            await asyncio.gather(*(self._renew(table[name]) for name in wave))
        skipped = [s.spec.name for s in table.all if s.should_run and s.state is State.SKIPPED]
        again = [*(name for name in skipped if name not in self.failed), *changes.scaled]
        if again:
            await self._start_each(again)

    async def finish(self) -> None:
        """Stop and forget the removed services, and free what replaced ones held."""
        await self._retire()
        self._table.workers.collect()

    async def _retire(self) -> None:
        """Stop and forget the removed services."""
        services, workers = self._table.services, self._table.workers
        gone = [services[name] for name in self._changes.removed if name in services]
        for service in gone:
            service.desired_state = DesiredState.STOPPED
            self._table.wake(service.spec.name)
        for service in reversed(gone):
            async with service.lock:
                await stop_all(service.instances, stop_timeout(service.spec))
            workers.listeners.assign(service.spec.name, None)
            for instance in service.instances:
                workers.forget(instance.name)
            del services[service.spec.name]
        ordered = {spec.name: services[spec.name] for spec in self.project.services}
        services.clear()
        services.update(ordered)

    # --- one service --------------------------------------------------------------------------

    async def _renew(self, service: Service) -> None:
        """Replace its instances; if that fails, keep them and note why."""
        name = service.spec.name
        former, spec = service.spec, self._spec(name)
        serving = any(instance.state in _SERVING for instance in service.instances)
        if serving and not (spec.oneshot or former.oneshot):
            failure = await self._replace(service, spec)
            if failure is not None:
                self.failed[name] = failure
                self._keep(service)
            return
        async with service.lock:
            await stop_all(service.instances, stop_timeout(former))
            count = self._count(service, former, spec)
            for instance in service.instances:
                instance.withdraw()
            service.spec = spec
            service.instances = self._table.make_instances(spec, count)
            self._table.workers.listeners.assign(name, self._listeners.get(name))
        if service.should_run or (name in self._changes.added and spec.autostart):
            await self._start_each([name])

    async def _start_each(self, names: Sequence[str]) -> None:
        """Start these, and note those that fail."""
        for name in names:
            try:
                await self._start([name])
            except MsctlError as error:
                self.failed[name] = error.message
                continue
            lost = next((i for i in self._table[name].instances if i.state in _LOST), None)
            if lost is not None:
                self.failed[name] = f"{lost.name} is {lost.state.value}: {lost.reason}"

    async def _replace(self, service: Service, spec: ServiceSpec) -> str | None:
        """Replace the running instances by new ones; return why that failed, or None."""
        table, listeners = self._table, self._table.workers.listeners
        name, former = service.spec.name, service.spec
        async with service.lock:
            olds = list(service.instances)
            news = table.make_instances(spec, self._count(service, former, spec))
            for instance in news:
                instance.withdraw(lambda _instance: table.wake(name))
            service.replacements = news
            in_place = self._in_place(spec)
            listener = listeners.get(name)
            limit = stop_timeout(former)
            failure: str | None = "it was interrupted"
            try:
                listeners.assign(name, self._listeners.get(name))
                failure = await self._begin(service, news[1:] if in_place else news)
                if failure is None and in_place:
                    failure = await self._exchange(service, olds[0], news[0], limit)
            finally:
                if failure is not None:
                    listeners.assign(name, listener)
                    await stop_all(news, limit)
                    service.replacements = []
            if failure is not None:
                if service.should_run and in_place:
                    service.instances[0].begin(table.gate)
                return failure
            for old, new in zip(olds, news, strict=False):
                old.withdraw()
                if not (in_place and new is news[0]):
                    self._announce(new)
            for new in news[len(olds) :]:
                self._announce(new)
            service.spec, service.instances, service.replacements = spec, news, olds
            await stop_all(olds, limit)
            service.replacements = []
        table.wake(name)
        return None

    async def _exchange(self, service: Service, old: Instance, new: Instance, limit: float) -> str | None:
        """Stop `old`, then start `new`; if that fails, put `old` back, at rest, and return why."""
        await old.stop(limit)
        old.withdraw()
        service.instances[0] = new
        self._announce(new)
        failure: str | None = "it was interrupted"
        try:
            failure = await self._begin(service, [new])
        finally:
            if failure is not None:
                await new.stop(limit)
                new.withdraw()
                service.instances[0] = old
                self._announce(old)
        return failure

    async def _begin(self, service: Service, instances: Sequence[Instance]) -> str | None:
        """Start these and wait until all are ready (None) or one has failed (why)."""
        for instance in instances:
            instance.begin(self._table.gate)
        while not all(instance.state in (State.READY, State.UNHEALTHY) for instance in instances):
            if not service.should_run:
                return "it was stopped meanwhile"
            for instance in instances:
                if instance.state in _FAILED:
                    return instance.reason
            await self._table.change([service.spec.name])
        return None

    def _announce(self, instance: Instance) -> None:
        instance.announce(self._table.context.registry, self._table.on_change)

    def _keep(self, service: Service) -> None:
        """Keep a service that could not be replaced, with the new values of its live keys."""
        self.project = without(self._old, self.project, [service.spec.name])
        self._table.workers.adopt(self.project)
        self._reconfigure(service, self._spec(service.spec.name))

    def _reconfigure(self, service: Service, spec: ServiceSpec) -> None:
        """Hand the live keys of `spec` to the service and its instances."""
        former, service.spec = service.spec, spec
        for instance in service.instances:
            instance.reconfigure(spec)
        for dependency in (*former.depends_on, *spec.depends_on):
            self._table.wake(dependency.service)  # an instance may wait for a condition that was edited

    # --- questions ------------------------------------------------------------------------------

    def _spec(self, name: str) -> ServiceSpec:
        spec = self.project.service(name)
        if spec is None:
            raise ValueError(f"{name} is not declared")
        return spec

    def _address(self, project: Project, name: str) -> Address | None:
        """The declared address of a service, unless its port is to be chosen."""
        spec = project.service(name)
        address = None if spec is None else address_of(spec, project)
        return address if address is not None and address.port else None

    def _starts(self, spec: ServiceSpec) -> bool:
        service = self._table.services.get(spec.name)
        if service is None or spec.name in self._changes.added:
            return spec.autostart
        return service.should_run

    def _in_place(self, spec: ServiceSpec) -> bool:
        """Whether the first new instance cannot run while the former one does."""
        former = self._old.service(spec.name)
        if former is None or spec.kind is Kind.REMOTE or (runs_here(spec) and runs_here(former)):
            return False
        mine, theirs = self._address(self.project, spec.name), self._address(self._old, spec.name)
        if mine is not None:
            return theirs is not None and mine.overlaps(theirs)
        # Its port is chosen, and dependents found it in their environment.
        return not runs_here(spec) and bool(self._dependents[spec.name])

    def _leaving_addresses(self) -> list[Address]:
        return [address for name in self._changes.removed if (address := self._address(self._old, name))]

    def _needs_a_leaving_address(self) -> bool:
        names = (*self._changes.restarted, *self._changes.added)
        needed = [address for name in names if (address := self._address(self.project, name))]
        return any(one.overlaps(other) for one in needed for other in self._leaving_addresses())

    def _count(self, service: Service, former: ServiceSpec, spec: ServiceSpec) -> int:
        """The number of new instances: as many as run, whoever scaled it, unless `replicas` was edited."""
        if runs_here(spec) or spec.replicas != former.replicas or spec.name in self._changes.added:
            return spec.replicas
        return len(service.instances)

"""Takes a running project over to an edited one: only what changed is started anew.

The successor of an instance is started beside it, unseen, and takes its place once it is ready; one
that does not become ready leaves all as it was. Two cannot hold one declared port, and an address
that others were told must not move: there the old one is stopped first, and started again if its
successor fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from msctl import ports
from msctl.config.diff import Changes, without
from msctl.discovery.registry import Registry
from msctl.errors import MsctlError
from msctl.http.listener import Listener
from msctl.model import dependency_graph
from msctl.model.address import Address
from msctl.model.project import Project, ServiceSpec
from msctl.model.services import address_of, runs_here, stop_timeout
from msctl.model.snapshots import Kind, State
from msctl.supervisor.instance import Gate, Instance
from msctl.supervisor.service import Service
from msctl.supervisor.workers import Workers

_SERVING = frozenset({State.RUNNING, State.READY, State.UNHEALTHY})
_FAILED = frozenset({State.FATAL, State.SKIPPED, State.BACKOFF, State.EXITED})
_LOST = frozenset({State.FATAL, State.SKIPPED, State.BACKOFF})


class Reload:
    """One change from `old` to `new`, over the supervisor's own parts.

    `make` builds an instance that is seen; `changed` is what seen instances tell. `change` waits for
    the next change of services, `wake` makes it. `resize` and `start` are as the user's verbs.
    """

    def __init__(
        self,
        old: Project,
        new: Project,
        changes: Changes,
        *,
        services: dict[str, Service],
        workers: Workers,
        registry: Registry,
        make: Callable[[ServiceSpec, int], Instance],
        changed: Callable[[Instance], None],
        gate: Gate,
        change: Callable[[Sequence[str]], Awaitable[None]],
        wake: Callable[[str], None],
        resize: Callable[[Service, int], Awaitable[None]],
        start: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        self.project = new
        """What runs in the end: services that failed are still as they were."""
        self.failed: dict[str, str] = {}
        self._old = old
        self._changes = changes
        self._services = services
        self._workers = workers
        self._registry = registry
        self._make = make
        self._changed = changed
        self._gate = gate
        self._change = change
        self._wake = wake
        self._resize = resize
        self._start = start
        self._listeners = workers.listeners.plan(new)
        self._dependents = dependency_graph.dependents(new.services)

    def reserve(self) -> None:
        """Bind, or see to be free, what is needed besides what the stack holds already.

        Raises PortTakenError; then nothing is bound, and nothing has changed.
        """
        leaving = [address for name in self._changes.removed if (address := self._address(self._old, name))]
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

    async def apply(self) -> None:
        """Start what is new and what changed, in the order of what needs what. What was removed runs on,
        unless its address is wanted (see `retire`)."""
        changes = self._changes
        for name in changes.added:
            service = self._services[name] = Service(self._spec(name))
            service.instances += [self._make(service.spec, n + 1) for n in range(service.spec.replicas)]
        for spec in self.project.services:
            if spec.name not in (*changes.added, *changes.restarted):
                self._reconfigure(self._services[spec.name], spec)
        for name in changes.added:
            self._workers.listeners.assign(name, self._listeners.get(name))
        self._workers.adopt(self.project)
        if any(runs_here(self._spec(name)) for name in (*changes.added, *changes.restarted)):
            self._workers.reload_modules()
        if self._wants_what_leaves():
            await self.retire()
        for name in changes.scaled:
            await self._resize(self._services[name], self._spec(name).replicas)
        chosen = [
            name
            for name in (*changes.restarted, *changes.added)
            if name in changes.restarted or self._starts(self._spec(name))
        ]
        for wave in dependency_graph.waves(self.project.services, chosen):
            await asyncio.gather(*(self._renew(self._services[name]) for name in wave))
        left_out = [s.spec.name for s in self._services.values() if s.wanted and s.state is State.SKIPPED]
        again = [*(n for n in left_out if n not in self.failed), *changes.scaled]
        if again:
            await self._started(again)

    async def retire(self) -> None:
        """Stop what is no longer declared, and forget it."""
        gone = [self._services[name] for name in self._changes.removed if name in self._services]
        for service in gone:
            service.wanted = False
            self._wake(service.spec.name)
        for service in reversed(gone):
            async with service.lock:
                limit = stop_timeout(service.spec)
                await asyncio.gather(*(instance.stop(limit) for instance in service.instances))
            self._workers.listeners.assign(service.spec.name, None)
            for instance in service.instances:
                self._workers.forget(instance.name)
            del self._services[service.spec.name]
        ordered = {spec.name: self._services[spec.name] for spec in self.project.services}
        self._services.clear()
        self._services.update(ordered)

    # --- one service --------------------------------------------------------------------------

    async def _renew(self, service: Service) -> None:
        """Bring it to what is declared now; where that fails, keep it as it was and say why."""
        name = service.spec.name
        former, spec = service.spec, self._spec(name)
        serving = any(i.state in _SERVING for i in service.instances)
        if serving and not (spec.oneshot or former.oneshot):
            why = await self._succeed(service, spec)
            if why is not None:
                self.failed[name] = why
                self._keep(service)
            return
        async with service.lock:
            limit = stop_timeout(former)
            await asyncio.gather(*(instance.stop(limit) for instance in service.instances))
            count = self._count(service, former, spec)
            for instance in service.instances:
                instance.conceal()
            service.spec = spec
            service.instances = [self._make(spec, n + 1) for n in range(count)]
            self._workers.listeners.assign(name, self._listeners.get(name))
        if service.wanted or (name in self._changes.added and spec.autostart):
            await self._started([name])

    async def _started(self, names: Sequence[str]) -> None:
        """Start these, and note which cannot be."""
        for name in names:
            try:
                await self._start([name])
            except MsctlError as error:
                self.failed[name] = error.message
                continue
            lost = next((i for i in self._services[name].instances if i.state in _LOST), None)
            if lost is not None:
                self.failed[name] = f"{lost.name} is {lost.state.value}: {lost.reason}"

    async def _succeed(self, service: Service, spec: ServiceSpec) -> str | None:
        """Let new instances take the place of those that run; why they cannot, or None."""
        name, former = service.spec.name, service.spec
        async with service.lock:
            olds = list(service.instances)
            fresh = [self._make(spec, n + 1) for n in range(self._count(service, former, spec))]
            for instance in fresh:
                instance.conceal(lambda _instance: self._wake(name))
            service.beside = fresh
            in_place = self._in_place(spec)
            listener = self._workers.listeners.get(name)
            limit = stop_timeout(former)
            why: str | None = "it was interrupted"
            try:
                beside = fresh[1:] if in_place else fresh
                self._workers.listeners.assign(name, self._listeners.get(name))
                why = await self._begin(service, beside)
                if why is None and in_place:
                    why = await self._exchange(service, olds[0], fresh[0], limit)
            finally:
                if why is not None:
                    self._workers.listeners.assign(name, listener)
                    await asyncio.gather(*(instance.stop(limit) for instance in fresh))
                    service.beside = []
            if why is not None:
                if service.wanted and in_place:
                    service.instances[0].begin(self._gate)
                return why
            for old, new in zip(olds, fresh, strict=False):
                old.conceal()
                if not (in_place and new is fresh[0]):
                    new.appear(self._registry, self._changed)
            for new in fresh[len(olds) :]:
                new.appear(self._registry, self._changed)
            service.spec, service.instances, service.beside = spec, fresh, olds
            await asyncio.gather(*(old.stop(limit) for old in olds))
            service.beside = []
        self._wake(name)
        return None

    async def _exchange(self, service: Service, old: Instance, new: Instance, limit: float) -> str | None:
        """Stop `old`, start `new`; where that fails, `old` is there again, at rest."""
        await old.stop(limit)
        old.conceal()
        service.instances[0] = new
        new.appear(self._registry, self._changed)
        why: str | None = "it was interrupted"
        try:
            why = await self._begin(service, [new])
        finally:
            if why is not None:
                await new.stop(limit)
                new.conceal()
                service.instances[0] = old
                old.appear(self._registry, self._changed)
        return why

    async def _begin(self, service: Service, instances: Sequence[Instance]) -> str | None:
        """Start these and wait until all are ready (None) or one has failed (why)."""
        for instance in instances:
            instance.begin(self._gate)
        while not all(instance.state in (State.READY, State.UNHEALTHY) for instance in instances):
            if not service.wanted:
                return "it was stopped meanwhile"
            for instance in instances:
                if instance.state in _FAILED:
                    return instance.reason
            await self._change([service.spec.name])
        return None

    # --- what follows from what is declared -----------------------------------------------------

    def _spec(self, name: str) -> ServiceSpec:
        spec = self.project.service(name)
        if spec is None:
            raise ValueError(f"{name} is not declared")
        return spec

    def _address(self, project: Project, name: str) -> Address | None:
        """The address that a service is declared to have, where it is a certain one."""
        spec = project.service(name)
        address = None if spec is None else address_of(spec, project)
        return address if address is not None and address.port else None

    def _starts(self, spec: ServiceSpec) -> bool:
        service = self._services.get(spec.name)
        return spec.autostart if service is None or spec.name in self._changes.added else service.wanted

    def _in_place(self, spec: ServiceSpec) -> bool:
        """Whether the first new instance cannot run while the old one does."""
        former = self._old.service(spec.name)
        if former is None or spec.kind is Kind.REMOTE or (runs_here(spec) and runs_here(former)):
            return False
        mine, theirs = self._address(self.project, spec.name), self._address(self._old, spec.name)
        if mine is not None:
            return theirs is not None and mine.overlaps(theirs)
        # Its port is chosen; whoever depends on it was told the one that it has.
        return not runs_here(spec) and bool(self._dependents[spec.name])

    def _wants_what_leaves(self) -> bool:
        leaving = [address for name in self._changes.removed if (address := self._address(self._old, name))]
        wanted = [self._address(self.project, n) for n in (*self._changes.restarted, *self._changes.added)]
        return any(one.overlaps(other) for one in wanted if one is not None for other in leaving)

    def _count(self, service: Service, former: ServiceSpec, spec: ServiceSpec) -> int:
        """How many instances: as many as there are, whoever scaled it, unless the declaration changed."""
        if runs_here(spec) or spec.replicas != former.replicas or spec.name in self._changes.added:
            return spec.replicas
        return len(service.instances)

    def _keep(self, service: Service) -> None:
        """It could not be brought over: it goes on as it was, by the new rules."""
        self.project = without(self._old, self.project, [service.spec.name])
        self._workers.adopt(self.project)
        self._reconfigure(service, self._spec(service.spec.name))

    def _reconfigure(self, service: Service, spec: ServiceSpec) -> None:
        """Hand the live keys of `spec` to the service and its instances."""
        former, service.spec = service.spec, spec
        for instance in service.instances:
            instance.reconfigure(spec)
        for dependency in (*former.depends_on, *spec.depends_on):
            self._wake(dependency.service)  # an instance may wait for a condition that was edited

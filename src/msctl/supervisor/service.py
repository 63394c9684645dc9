"""A service and its instances: what its dependents may rely on, and its snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from msctl.model.service_policies import Condition
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import can_scale, probed, runs_here
from msctl.model.snapshots import InstanceSnapshot, Kind, ServiceSnapshot, State
from msctl.processes import usage
from msctl.supervisor.instance import Instance
from msctl.supervisor.lifecycle import SETTLED, combined


class DesiredState(StrEnum):
    """What the user last asked for."""

    RUNNING = "running"
    STOPPED = "stopped"


@dataclass(eq=False, slots=True)
class Service:
    """A service of the project."""

    spec: ServiceSpec
    instances: list[Instance] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while instances are started or stopped, so that a start waits for a stop under way."""
    replacements: list[Instance] = field(default_factory=list)
    """Withdrawn instances during a reload: those about to replace the instances, or replaced and stopping."""
    desired_state: DesiredState = DesiredState.STOPPED
    _meters: dict[str, usage.Meter] = field(default_factory=dict)

    @property
    def should_run(self) -> bool:
        return self.desired_state is DesiredState.RUNNING

    @property
    def state(self) -> State:
        return combined(tuple(i.state for i in self.instances))

    def settled(self) -> bool:
        """Whether a start has its answer: every instance is ready, has completed, or has failed."""
        return all(
            i.state in SETTLED and not (i.state is State.STOPPED and self.should_run) for i in self.instances
        )

    def satisfies(self, condition: Condition) -> bool:
        """Whether a dependent with this condition may start.

        A completed one-shot counts as ready. So does a running service that cannot be probed: a chain
        of those must not add up the time for which each is observed.
        """
        states = {i.state for i in self.instances}
        if not states:
            return False
        if self.spec.kind is Kind.REMOTE:
            # Nothing here can bring it up, and its dependents have its address: one probe is enough.
            return states <= {State.READY, State.UNHEALTHY}
        completed = states == {State.EXITED}
        if condition is Condition.COMPLETED:
            return completed
        if condition is Condition.READY and (self.spec.oneshot or probed(self.spec)):
            return states == {State.READY} or (self.spec.oneshot and completed)
        return states <= {State.RUNNING, State.READY, State.UNHEALTHY, State.EXITED}

    def blocked_reason(self) -> str | None:
        """Why its dependents cannot start until somebody acts, or None."""
        name, state = self.spec.name, self.state
        if not self.instances:
            return f"{name} is scaled to 0"
        if state in _ENDED:
            reason = next((i.reason for i in self.instances if i.state is state and i.reason), "")
            return f"{name} {_ENDED[state]}: {reason}" if reason else f"{name} {_ENDED[state]}"
        if state is State.STOPPED and not self.should_run:
            return f"{name} is stopped"
        return None

    def snapshot(self, now: float, sessions: Mapping[int, set[int]]) -> ServiceSnapshot:
        """As `status` shows it; `sessions` are process ids by session, `now` is monotonic."""
        instances = tuple(self._measure(i.snapshot(), now, sessions) for i in self.instances)
        state = self.state
        culprit = next((i for i in instances if i.state is state), None)
        reason = culprit.reason if culprit else ""
        if culprit and len(instances) > 1 and state is not State.READY:
            ready = sum(i.state is State.READY for i in instances)
            reason = f"{ready} of {len(instances)} ready; {culprit.name}: {culprit.reason or culprit.state}"
        cpu = [i.cpu_percent for i in instances if i.cpu_percent is not None]
        memory = [i.memory_bytes for i in instances if i.memory_bytes is not None]
        return ServiceSnapshot(
            name=self.spec.name,
            kind=self.spec.kind,
            state=state,
            reason=reason,
            addresses=tuple(_shown(i.address, self.spec.scheme) for i in instances if i.address),
            routes=tuple(route.path for route in self.spec.routes),
            pid=instances[0].pid if len(instances) == 1 else None,
            uptime_s=max((i.uptime_s for i in instances if i.uptime_s is not None), default=None),
            restarts=sum(i.restarts for i in instances),
            cpu_percent=sum(cpu) if cpu else None,
            memory_bytes=sum(memory) if memory else None,
            instances=instances,
            depends_on=tuple(dependency.service for dependency in self.spec.depends_on),
            scalable=can_scale(self.spec),
        )

    def _measure(
        self, instance: InstanceSnapshot, now: float, sessions: Mapping[int, set[int]]
    ) -> InstanceSnapshot:
        if instance.pid is None or instance.pid not in sessions or runs_here(self.spec):
            self._meters.pop(instance.name, None)
            return instance
        cpu_s, memory = usage.measure(sessions[instance.pid])
        meter = self._meters.setdefault(instance.name, usage.Meter())
        percent = meter.take(now, instance.uptime_s or 0.0, cpu_s)
        return replace(instance, cpu_percent=percent, memory_bytes=memory)


_ENDED = {State.FATAL: "failed", State.SKIPPED: "was skipped", State.EXITED: "has exited"}


def _shown(address: str, scheme: str | None) -> str:
    """An address as ServiceSnapshot has it, with the scheme that dependents are given."""
    return address if scheme in (None, "http") else f"{scheme}://{address.rpartition('://')[2]}"

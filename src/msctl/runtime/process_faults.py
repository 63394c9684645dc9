"""Carries out faults of processes: signals, health checks, starts, clocks.

A paused process is continued at the end of its fault, and by whoever stops it; if this process is killed, the
watchdog kills the paused ones too.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msctl.errors import NotRunningError
from msctl.faults.active import ActiveFault
from msctl.faults.kinds import FaultKind, TargetType
from msctl.faults.spec import FaultSpec
from msctl.model.snapshots import InstanceSnapshot, ServiceSnapshot
from msctl.processes.process_table import sessions, signal_all
from msctl.runtime.fault_world import faketime_library

Restart = Callable[[str], Awaitable[None]]
"""Restarts a service, one instance after the other where it can."""


class ProcessFaultCarrier:
    """Breaks processes; implements processes.checks.ProbeFaults, which the supervisor's children ask."""

    def __init__(self, services: Callable[[], Sequence[ServiceSnapshot]], restart: Restart) -> None:
        self._services = services
        self._restart = restart
        self._faults: tuple[ActiveFault, ...] = ()
        self._paused: dict[str, set[int]] = {}
        self.stopping = False
        """Whether the stack stops, so that nothing is started again."""

    def notes(self, _spec: FaultSpec) -> Sequence[str]:
        return ()

    def refresh(self, faults: Sequence[ActiveFault]) -> None:
        self._faults = tuple(faults)

    async def begin(self, fault: ActiveFault) -> None:
        kind = fault.spec.kind
        if kind in (FaultKind.KILL, FaultKind.PAUSE):
            self._signal(fault, signal.SIGKILL if kind is FaultKind.KILL else signal.SIGSTOP)
        elif kind is FaultKind.CLOCK_SKEW:
            fault.strikes()
            await self._restart(self._service_of(fault.spec))

    async def end(self, fault: ActiveFault) -> None:
        signal_all(self._paused.pop(fault.id, set()) - self._held(), signal.SIGCONT)
        if fault.spec.kind is FaultKind.CLOCK_SKEW and not self.stopping:
            await self._restart(self._service_of(fault.spec))

    def _held(self) -> set[int]:
        """The processes that another fault keeps paused."""
        return set().union(*self._paused.values())

    def _signal(self, fault: ActiveFault, number: signal.Signals) -> None:
        """Signal the processes of the target, and what they have started in their sessions."""
        leaders = [one.pid for _, one in self._targets(fault.spec) if one.pid is not None]
        if not leaders:
            raise NotRunningError(f"{fault.spec.target} does not run")
        table = sessions()
        pids = {pid for leader in leaders for pid in table.get(leader, {leader})}
        fault.hits += len(leaders)
        if number is signal.SIGSTOP:
            self._paused[fault.id] = pids
        signal_all(pids, number)

    def _targets(self, spec: FaultSpec) -> list[tuple[str, InstanceSnapshot]]:
        return [
            (service.name, one)
            for service in self._services()
            for one in service.instances
            if _concerns(spec, service.name, one.name)
        ]

    def _service_of(self, spec: FaultSpec) -> str:
        return self._targets(spec)[0][0]

    # --- what children ask --------------------------------------------------------------------------

    def failing(self, service: str, instance: str) -> str | None:
        """Why the health check of an instance fails; None lets it run."""
        for fault in self._faults:
            if fault.spec.kind is FaultKind.FAILING_PROBE and _concerns(fault.spec, service, instance):
                fault.hits += 1
                return f"the fault {fault.id}"
        return None

    def slowness(self, service: str, instance: str) -> float:
        """The seconds by which an instance that starts is ready later."""
        return max(
            (
                fault.spec.delay
                for fault in self._faults
                if fault.spec.kind is FaultKind.SLOW_START and _concerns(fault.spec, service, instance)
            ),
            default=0.0,
        )

    def environment(self, service: str, instance: str, inherited: Mapping[str, str]) -> Mapping[str, str]:
        """The variables that skew the clock of an instance, asked for at each start."""
        for fault in self._faults:
            spec = fault.spec
            if not _concerns(spec, service, instance):
                continue
            fault.hits += spec.kind is FaultKind.SLOW_START
            if spec.kind is not FaultKind.CLOCK_SKEW:
                continue
            library = faketime_library()
            if library is None:
                continue
            preloaded = " ".join(filter(None, (library, inherited.get("LD_PRELOAD"))))
            # The monotonic clock stays: time limits would otherwise end at once, or never.
            return {
                "LD_PRELOAD": preloaded,
                "FAKETIME": f"{spec.offset:+g}",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
            }
        return {}


def _concerns(spec: FaultSpec, service: str, instance: str) -> bool:
    return spec.target.name == (service if spec.target.type is TargetType.SERVICE else instance)

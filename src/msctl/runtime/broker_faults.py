"""Carries out faults of the embedded broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msctl.broker.core.broker import Alarm
from msctl.broker.server import BrokerServer
from msctl.clock import AsyncClock
from msctl.faults.active import ActiveFault
from msctl.faults.kinds import FaultKind
from msctl.faults.spec import FaultSpec

RETRY_S = 0.5
"""Seconds between two tries to listen at the broker's address again."""


class BrokerFaultCarrier:
    """Sets the faults of the broker's server, which exists by the time there is one."""

    def __init__(self, server: Callable[[], BrokerServer], clock: AsyncClock) -> None:
        self._server = server
        self._clock = clock
        self._alarms: set[str] = set()
        self._stops: set[str] = set()

    def notes(self, _spec: FaultSpec) -> Sequence[str]:
        return ()

    def refresh(self, faults: Sequence[ActiveFault]) -> None:
        server = self._server()
        server.faults.set(faults)
        server.changed()

    async def begin(self, fault: ActiveFault) -> None:
        server, kind = self._server(), fault.spec.kind
        if kind is FaultKind.CUT:
            server.faults.begin_cut(fault)
        elif kind is FaultKind.CHANNEL_CLOSE:
            server.faults.close_channels(fault)
        elif kind is FaultKind.CONSUMER_CANCEL:
            server.faults.cancel_consumers(fault)
        elif kind is FaultKind.MEMORY_ALARM:
            self._alarms.add(fault.id)
            server.broker.alarm_held = fault.strikes()
            server.broker.raise_alarm(Alarm.MEMORY, f"the fault {fault.id}")
        elif kind is FaultKind.BROKER_STOP:
            if not self._stops and fault.strikes():
                server.suspend(f"the fault {fault.id}")
            self._stops.add(fault.id)
        server.changed()

    async def end(self, fault: ActiveFault) -> None:
        server = self._server()
        self._alarms.discard(fault.id)
        if not self._alarms:
            server.broker.alarm_held = False
        if fault.id in self._stops:
            self._stops.discard(fault.id)
            while not self._stops and not await server.resume():
                await self._clock.sleep(RETRY_S)
        server.changed()

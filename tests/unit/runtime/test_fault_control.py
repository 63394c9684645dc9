"""The life of faults: all or none begin, each ends on time, and what fails to begin is undone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from msctl.errors import MsctlError, UsageError
from msctl.faults.active import ActiveFault
from msctl.faults.check import RunningService, World
from msctl.faults.kinds import Place
from msctl.faults.parse import fault_from
from msctl.faults.spec import FaultSpec
from msctl.model.snapshots import BrokerMode, Kind
from msctl.runtime.fault_control import FaultControl
from msctl.telemetry.logs.hub import LogHub
from tests.support.clock import FakeClock, settle


class Recorder:
    """Carries nothing out; fails to begin the targets in `broken`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.active: list[str] = []
        self.broken: set[str] = set()

    def notes(self, spec: FaultSpec) -> Sequence[str]:
        return (f"a note on {spec.target.name}",)

    async def begin(self, fault: ActiveFault) -> None:
        if fault.spec.target.name in self.broken:
            raise MsctlError("it cannot be broken")
        self.calls.append(f"begin {fault.id}")

    async def end(self, fault: ActiveFault) -> None:
        self.calls.append(f"end {fault.id}")

    def refresh(self, faults: Sequence[ActiveFault]) -> None:
        self.active = [fault.id for fault in faults]


class Rig:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.carrier = Recorder()
        self.logs = LogHub(self.clock)
        self.lines: list[str] = []
        self.logs.listen(lambda line: self.lines.append(line.text))
        names = ("a", "b")
        world = World(
            {
                name: RunningService(Kind.COMMAND, {f"{name}-1": 10}, intercepted=True, probed=True)
                for name in names
            },
            {},
            BrokerMode.EXTERNAL,
        )

        async def see() -> World:
            return world

        self.control = FaultControl(
            self.clock, self.logs, see, dict.fromkeys(Place, self.carrier), draw_seed=lambda: 7
        )

    async def add(self, *faults: dict[str, Any]) -> None:
        await self.control.add([fault_from(each) for each in faults])


async def test_a_fault_ends_by_itself_and_both_moments_are_logged() -> None:
    rig = Rig()
    await rig.add({"kind": "abort", "target": "a", "for": "5s"})
    assert (rig.carrier.active, rig.lines[0].split(":")[0]) == (["f1"], "fault f1 begins")
    await rig.clock.advance(4.9)
    assert rig.control.active()
    await rig.clock.advance(0.2)
    assert (rig.control.active(), rig.carrier.active, rig.carrier.calls) == ((), [], ["begin f1", "end f1"])
    assert rig.lines[1].startswith("fault f1 ended, after 5s")


async def test_what_happens_once_ends_at_once_and_repeats_only_when_asked() -> None:
    rig = Rig()
    await rig.add({"kind": "kill", "target": "a"})
    assert (rig.control.active(), rig.carrier.calls) == ((), ["begin f1", "end f1"])
    rig.carrier.calls.clear()
    await rig.add({"kind": "kill", "target": "a", "every": "2s", "for": "5s"})
    await rig.clock.advance(10)
    assert rig.carrier.calls == ["begin f2", "begin f2", "begin f2", "end f2"]


async def test_of_several_faults_all_begin_or_none() -> None:
    rig = Rig()
    with pytest.raises(MsctlError):
        await rig.add({"kind": "abort", "target": "a"}, {"kind": "abort", "target": "nobody"})
    assert (rig.control.active(), rig.carrier.calls) == ((), [])
    rig.carrier.broken = {"b"}
    with pytest.raises(MsctlError):
        await rig.add({"kind": "abort", "target": "a"}, {"kind": "abort", "target": "b"})
    assert (rig.control.active(), rig.carrier.active) == ((), [])
    await rig.clock.advance(100)
    assert rig.carrier.calls.count("end f1") == 1


async def test_faults_are_cleared_by_id_or_all() -> None:
    rig = Rig()
    await rig.add(*({"kind": "abort", "target": "a"} for _ in range(3)))
    assert [one.id for one in await rig.control.clear(["f2"])] == ["f2"]
    with pytest.raises(UsageError):
        await rig.control.clear(["f2"])
    assert [one.id for one in await rig.control.clear()] == ["f1", "f3"]
    assert await rig.control.clear() == ()
    await settle()
    assert rig.carrier.active == []

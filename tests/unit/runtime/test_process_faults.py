"""Faults of processes: who is signalled, and that a paused process goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from msctl.errors import NotRunningError
from msctl.faults.active import ActiveFault
from msctl.faults.parse import fault_from
from msctl.model.snapshots import InstanceSnapshot, Kind, ServiceSnapshot, State
from msctl.runtime.process_faults import ProcessFaultCarrier
from tests.support.waiting import eventually

SLEEP = "import time; time.sleep(600)"
WITH_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])"


def fault(kind: str, target: str = "worker", number: str = "f1", **options: Any) -> ActiveFault:
    return ActiveFault(number, fault_from({"kind": kind, "target": target, **options}), 1, 60.0)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a session, with a child of its own."""
    process = subprocess.Popen([sys.executable, "-c", WITH_CHILD], start_new_session=True)
    yield process
    for one in [*psutil.Process(process.pid).children(), psutil.Process(process.pid)]:
        one.kill()
    process.wait()


def carrier(pid: int | None) -> tuple[ProcessFaultCarrier, list[str]]:
    restarted: list[str] = []
    service = ServiceSnapshot(
        "worker", Kind.COMMAND, State.READY, instances=(InstanceSnapshot("worker-1", State.READY, pid=pid),)
    )

    async def restart(name: str) -> None:
        restarted.append(name)

    return ProcessFaultCarrier(lambda: (service,), restart), restarted


def stopped(process: psutil.Process) -> bool:
    return process.status() == psutil.STATUS_STOPPED


async def test_a_pause_stops_the_whole_family_and_its_end_continues_it(
    child: subprocess.Popen[bytes],
) -> None:
    leader = psutil.Process(child.pid)
    eventually(leader.children)
    family = [leader, *leader.children()]
    faults, _ = carrier(child.pid)
    first, second = fault("pause"), fault("pause", "instance:worker-1", "f2")
    await faults.begin(first)
    await faults.begin(second)
    eventually(lambda: all(map(stopped, family)))
    await faults.end(first)
    assert all(map(stopped, family))  # the other fault still holds them
    await faults.end(second)
    eventually(lambda: not any(map(stopped, family)))


async def test_a_kill_is_a_sigkill(child: subprocess.Popen[bytes]) -> None:
    process = subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    faults, _ = carrier(process.pid)
    killed = fault("kill")
    await faults.begin(killed)
    assert (process.wait(), killed.hits) == (-signal.SIGKILL, 1)
    assert child.poll() is None


async def test_what_does_not_run_is_not_signalled() -> None:
    faults, _ = carrier(None)
    with pytest.raises(NotRunningError):
        await faults.begin(fault("pause"))


async def test_a_skewed_clock_restarts_the_service_at_both_ends_but_not_when_the_stack_stops() -> None:
    faults, restarted = carrier(1)
    skewed = fault("clock-skew", offset="+1h")
    await faults.begin(skewed)
    await faults.end(skewed)
    faults.stopping = True
    await faults.end(skewed)
    assert restarted == ["worker", "worker"]


def test_checks_and_starts_ask_for_the_faults_of_their_instance() -> None:
    faults, _ = carrier(1)
    broken, slow = fault("failing-probe", "instance:worker-2"), fault("slow-start", delay="5s")
    faults.refresh([broken, slow])
    assert faults.failing("worker", "worker-1") is None
    assert faults.failing("worker", "worker-2") == "the fault f1"
    assert (faults.slowness("worker", "worker-1"), faults.slowness("other", "other-1")) == (5.0, 0.0)
    assert faults.environment("worker", "worker-1", {}) == {}
    assert (broken.hits, slow.hits) == (1, 1)

"""The probes that a `health` table declares."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from msctl.model.service_policies import HealthSpec, RestartPolicy
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import State
from msctl.processes.probe_schedule import ProbeOutcome, Schedule, Timing
from msctl.processes.probes import exec_probe, run_probe
from tests.process.test_command_services import py, sh
from tests.support.supervisor import MakeRig, alive, free_port
from tests.support.waiting import until

KEYED = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.headers["X-Key"] == "a" and self.path == "/ok" else 403)
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["WHERE"])), Handler).serve_forever()
"""


@pytest.mark.parametrize(
    ("health", "ready"),
    [
        (HealthSpec(http="/ok", headers={"X-Key": "a"}), True),
        (HealthSpec(http="/ok"), False),
        (HealthSpec(http="/ok", headers={"X-Key": "a"}, https=True), False),
        (HealthSpec(tcp=True), True),
    ],
)
async def test_a_table_probes_another_port_with_headers(
    rig: MakeRig, health: HealthSpec, ready: bool
) -> None:
    port = free_port()
    health = HealthSpec(health.http, health.headers, health.https, port, health.tcp)
    spec = ServiceSpec("a", command=py(KEYED), env={"WHERE": str(port)}, health=health, start_timeout=5.0)
    one = rig(spec)
    starting = asyncio.create_task(one.supervisor.start())
    if ready:
        await asyncio.wait_for(starting, 60)
        assert one.service("a").state is State.READY
        return
    await until(lambda: "GET /ok" in one.service("a").reason or "cannot connect" in one.service("a").reason)
    assert one.service("a").state is State.RUNNING
    starting.cancel()


async def test_a_command_is_a_probe_with_the_environment_of_its_service(rig: MakeRig) -> None:
    spec = ServiceSpec(
        "a",
        command=("sleep", "1000"),
        env={"WHERE": "here"},
        health=HealthSpec(exec=("sh", "-c", 'test "$WHERE" = here && test -e up'), interval=0.02, retries=2),
    )
    one = rig(spec)
    starting = asyncio.create_task(one.supervisor.start())
    await until(lambda: "exit 1" in one.service("a").reason)
    root = Path(f"/proc/{one.service('a').instances[0].pid}/cwd").readlink()
    (root / "up").touch()
    await asyncio.wait_for(starting, 60)
    assert one.service("a").state is State.READY
    (root / "up").unlink()
    await one.until_state("a", State.UNHEALTHY)


async def test_a_line_of_the_log_is_a_probe(rig: MakeRig) -> None:
    one = rig(ServiceSpec("a", command=sh("echo it is up; exec sleep 1000"), health=HealthSpec(log="is up$")))
    await asyncio.wait_for(one.supervisor.start(), 60)
    assert one.service("a").state is State.READY


async def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    probe = exec_probe(sh("sleep 1000 & echo $! > pid; wait"), os.environ, tmp_path)
    assert await run_probe(probe, 0.5) == "no response within 0.5 s"
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not alive(pid))
    assert not any("sleep 1000" in " ".join(child.cmdline()) for child in psutil.Process().children())


async def test_a_probe_command_that_is_missing_says_so(tmp_path: Path) -> None:
    failure = await run_probe(exec_probe(("/no/such/command",), os.environ, tmp_path))
    assert failure is not None
    assert "/no/such/command" in failure


def test_failures_in_the_start_period_do_not_count_and_so_many_after_it_are_late() -> None:
    schedule = Schedule(0.0, 60.0, timing=Timing(5.0, 5.0, retries=2, start_period=10.0))
    outcomes = [schedule.answer(False, now) for now in (1.0, 5.0, 9.9, 10.0, 15.0)]
    assert outcomes == [ProbeOutcome.NOT_YET] * 4 + [ProbeOutcome.LATE]


async def test_a_service_that_never_passes_is_fatal_after_its_start_period(rig: MakeRig) -> None:
    health = HealthSpec(exec=("false",), interval=0.01, retries=3, start_period=0.1)
    one = rig(ServiceSpec("a", command=("sleep", "1000"), health=health, restart=RestartPolicy.NO))
    await asyncio.wait_for(one.supervisor.start(), 60)
    assert one.service("a").state is State.FATAL

"""Run by test_crash.py: a supervisor whose process is then killed. Arguments: pid_file, shell scripts.

Prints "ready PID" with the watchdog's process id once every service has printed its "up".
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psutil

from msctl.clock import SystemClock
from msctl.discovery.registry import Registry
from msctl.model.broker_spec import BrokerSpec
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import State
from msctl.supervisor.context import SupervisorContext
from msctl.supervisor.supervisor import Supervisor
from msctl.telemetry.logs.hub import LogHub


async def main(pid_file: str, *scripts: str) -> None:
    clock = SystemClock(asyncio.sleep)
    logs = LogHub(clock)
    logs.listen(lambda line: print(line.text, flush=True) if line.text.startswith("pid ") else None)
    services = tuple(
        ServiceSpec(f"s{n}", command=("sh", "-c", script), ready_log="up") for n, script in enumerate(scripts)
    )
    supervisor = Supervisor(
        Project("crash", None, "msctl.toml", services, None, BrokerSpec()),
        SupervisorContext(
            clock=clock,
            logs=logs,
            registry=Registry(),
            builtin={},
            amqp_url=lambda: "amqp://127.0.0.1/",
            on_event=lambda event: None,
            pid_file=Path(pid_file),
        ),
    )
    await supervisor.start()
    assert {s.state for s in supervisor.snapshot()} == {State.READY}
    for snapshot in supervisor.snapshot():
        print("pid", snapshot.pid, flush=True)
    watchdog = next(p.pid for p in psutil.Process().children() if "watchdog.py" in " ".join(p.cmdline()))
    print("ready", watchdog, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

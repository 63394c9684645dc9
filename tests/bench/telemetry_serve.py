"""The gateway in front of users, observed or not: `telemetry_serve.py on|off` prints its port."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from msctl.clock import SystemClock
from msctl.config.reading.load import load
from msctl.discovery.registry import Registry
from msctl.gateway.app import Gateway
from msctl.hosting.hosted_app import NoInstrument
from msctl.model.service_context import ServiceContext
from msctl.model.snapshots import GATEWAY, Snapshot
from msctl.supervisor.context import SupervisorContext
from msctl.supervisor.supervisor import Supervisor
from msctl.telemetry.logs.hub import LogHub
from msctl.telemetry.observation import Observation


async def main(observed: bool) -> None:
    env = {"MSCTL_GATEWAY_PORT": "0", "MSCTL_USERS_PORT": "0"}
    project = load(cwd=Path("/"), env=env).project
    clock = SystemClock(asyncio.sleep)
    logs, registry = LogHub(clock), Registry()

    async def snapshot() -> Snapshot:
        raise AssertionError("nobody scrapes")

    observation = Observation(project, logs, {}, snapshot=snapshot, targets=tuple)
    observer = observation.requests if observed else None
    if observed:
        observation.start()

    def gateway(_: ServiceContext) -> Gateway:
        assert project.gateway is not None
        routes = [route for service in project.services for route in service.routes]
        return Gateway(project.gateway, routes, registry, clock=clock, observer=observer)

    supervisor = Supervisor(
        project,
        SupervisorContext(
            clock=clock,
            logs=logs,
            registry=registry,
            builtin={GATEWAY: gateway},
            amqp_url=lambda: "amqp://127.0.0.1:1/",
            on_event=lambda _: None,
            instrument=observer or NoInstrument(),
        ),
    )
    await supervisor.start(["users", "gateway"])
    found = {service.name: service for service in supervisor.snapshot()}
    print(found["gateway"].addresses[0].rpartition(":")[2], flush=True)
    # Whoever started us ends us by closing our input.
    await asyncio.to_thread(sys.stdin.read)
    await supervisor.shutdown(1.0)
    await observation.stop()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1] == "on"))

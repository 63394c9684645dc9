"""Every live key of a service, changed on a running instance: it runs on and the new value works."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from msctl.config.diff import diff, with_edited
from msctl.config.schema.service_keys import SERVICE
from msctl.config.schema.table import OnReload
from msctl.model.broker_spec import BrokerSpec
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_spec import RouteSpec
from msctl.model.service_policies import (
    Condition,
    Dependency,
    HealthSpec,
    RestartPolicy,
)
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import State
from tests.support.clock import FakeClock
from tests.support.supervisor import MakeRig, Rig, free_port

TRAP = "trap 'exit 7' USR1; trap '' TERM; echo up; while :; do sleep 0.02; done"
TRAPPING = ServiceSpec(
    "a", command=("sh", "-c", TRAP), ready_log="up", restart=RestartPolicy.NO, stop_timeout=600
)
SICK_ON_DEMAND = """
import http.server, os, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if pathlib.Path("unhealthy").exists() else 200)
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""
HOSTED = """
from aiohttp import web
def create_app(context):
    async def say(request):
        return web.Response(text=context.name)
    app = web.Application()
    app.router.add_get("/{tail:.*}", say)
    return app
"""


async def edit(r: Rig, old: list[ServiceSpec], new: list[ServiceSpec], **more: object) -> None:
    """Reload the edited services; the processes that run must stay the same."""
    before, after = (
        Project("test", None, "msctl.toml", tuple(specs), None, BrokerSpec()) for specs in (old, new)
    )
    before, after = (replace(each, **more) for each in (before, after))  # type: ignore[arg-type]  # its fields
    pids = {name: [i.pid for i in r.service(name).instances] for name in (spec.name for spec in old)}
    changes = with_edited(diff(before, after), before, after, ())
    assert changes.restarted == ()
    plan = r.supervisor.prepare(after, changes)
    assert await plan.apply() == {}
    await plan.finish()
    for name, former in pids.items():
        if former != [None]:
            assert [i.pid for i in r.service(name).instances] == former


def send(r: Rig, number: signal.Signals) -> None:
    pid = r.service("a").instances[0].pid
    assert pid is not None
    os.kill(pid, number)


async def check_restart(rig: MakeRig, _root: Path) -> None:
    a = replace(TRAPPING, restart=RestartPolicy.ALWAYS)
    r = rig(a)
    await r.supervisor.start()
    await edit(r, [a], [replace(a, restart=RestartPolicy.NO)])
    send(r, signal.SIGUSR1)
    await r.until_state("a", State.FATAL)
    assert r.service("a").reason == "exit 7"
    assert r.service("a").restarts == 0


async def check_success_exit_codes(rig: MakeRig, _root: Path) -> None:
    r = rig(TRAPPING)
    await r.supervisor.start()
    await edit(r, [TRAPPING], [replace(TRAPPING, success_exit_codes=(7,))])
    send(r, signal.SIGUSR1)
    await r.until_state("a", State.EXITED)


async def check_max_restarts(rig: MakeRig, _root: Path) -> None:
    a = replace(TRAPPING, restart=RestartPolicy.ALWAYS)
    r = rig(a)
    await r.supervisor.start()
    await edit(r, [a], [replace(a, max_restarts=0)])
    send(r, signal.SIGUSR1)
    await r.until_state("a", State.FATAL)
    assert r.service("a").restarts == 0


async def check_restart_window(rig: MakeRig, _root: Path) -> None:
    a = replace(TRAPPING, restart=RestartPolicy.ALWAYS, max_restarts=1)
    r = rig(a)
    await r.supervisor.start()
    await edit(r, [a], [replace(a, restart_window=600.0)])
    send(r, signal.SIGUSR1)
    await r.until(lambda: r.service("a").restarts == 1 and r.service("a").state is State.READY)
    send(r, signal.SIGUSR1)
    await r.until_state("a", State.FATAL)
    assert "in 600 s" in r.service("a").reason


async def check_stop_signal(rig: MakeRig, _root: Path) -> None:
    r = rig(TRAPPING)
    await r.supervisor.start()
    await edit(r, [TRAPPING], [replace(TRAPPING, stop_signal="SIGUSR1")])
    await asyncio.wait_for(r.supervisor.stop(["a"]), 60)
    assert r.service("a").instances[0].exit == "exit 7"


async def check_stop_timeout(rig: MakeRig, _root: Path) -> None:
    r = rig(TRAPPING)
    await r.supervisor.start()
    await edit(r, [TRAPPING], [replace(TRAPPING, stop_timeout=0.05)])
    await asyncio.wait_for(r.supervisor.stop(["a"]), 60)
    assert "killed by SIGKILL" in str(r.service("a").instances[0].exit)


async def check_start_timeout(rig: MakeRig, _root: Path) -> None:
    a = replace(TRAPPING, ready_log="never", start_timeout=600, stop_timeout=0.05)
    r = rig(a)
    starting = asyncio.create_task(r.supervisor.start())
    await r.until_state("a", State.RUNNING)
    await edit(r, [a], [replace(a, start_timeout=0.05)])
    await starting
    assert r.service("a").state is State.FATAL
    assert "within 0.05 s" in r.service("a").reason


async def check_liveness(rig: MakeRig, root: Path) -> None:
    clock = FakeClock()
    a = ServiceSpec(
        "a",
        command=(sys.executable, "-c", SICK_ON_DEMAND),
        routes=(RouteSpec("/", "a"),),
        health="/healthz",
        restart=RestartPolicy.NO,
    )
    r = rig(a, clock=clock)

    async def pass_time(until: Callable[[], bool]) -> None:
        while not until():
            await clock.advance(0.5)
            await asyncio.sleep(0.001)  # the probe's connection is a real one

    starting = asyncio.create_task(r.supervisor.start())
    await asyncio.wait_for(pass_time(starting.done), 60)
    assert r.service("a").state is State.READY
    (root / "unhealthy").touch()
    await asyncio.wait_for(pass_time(lambda: r.service("a").state is State.UNHEALTHY), 60)
    await edit(r, [a], [replace(a, liveness=True)])
    await asyncio.wait_for(pass_time(lambda: r.service("a").state is State.FATAL), 60)
    assert "liveness" in r.service("a").reason


async def check_depends_on(rig: MakeRig, _root: Path) -> None:
    a = ServiceSpec("a", command=("sleep", "600"), ready_log="never")
    b = ServiceSpec("b", command=("sleep", "600"), depends_on=(Dependency("a"),))
    r = rig(a, b)
    starting = asyncio.create_task(r.supervisor.start(["b"]))
    await r.until_state("a", State.RUNNING)
    assert r.service("b").state is State.WAITING
    await edit(r, [a, b], [a, replace(b, depends_on=(Dependency("a", Condition.STARTED),))])
    await asyncio.wait_for(starting, 60)
    assert r.service("b").state is State.READY


async def check_autostart(rig: MakeRig, _root: Path) -> None:
    a, b = (ServiceSpec(name, command=("sleep", "600")) for name in "ab")
    r = rig(a, b)
    await r.supervisor.start()
    await edit(r, [a, b], [replace(a, autostart=False), b])
    await r.supervisor.stop()
    await r.supervisor.start()
    assert (r.service("a").state, r.service("b").state) == (State.STOPPED, State.READY)


async def check_routes(rig: MakeRig, root: Path) -> None:
    """Two hosted services share the gateway's listener, which answers by their routes while it is down."""
    (root / "live_routes.py").write_text(HOSTED)
    gateway = GatewaySpec(port=free_port())
    a, b = (
        ServiceSpec(
            name,
            app="live_routes:create_app",
            port=gateway.port,
            routes=(RouteSpec(f"/{name}", name),),
        )
        for name in "ab"
    )
    r = rig(a, b, gateway=gateway)
    await r.supervisor.start()
    await edit(r, [a, b], [replace(a, routes=(RouteSpec("/new", "a"),)), b], gateway=gateway)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{gateway.port}") as session:
        async with session.get("/new") as answer:
            assert await answer.text() == "a"
        async with session.get("/a") as answer:
            assert answer.status == 404


CHECKS: dict[str, Callable[[MakeRig, Path], Awaitable[None]]] = {
    "autostart": check_autostart,
    "depends_on": check_depends_on,
    "liveness": check_liveness,
    "max_restarts": check_max_restarts,
    "restart": check_restart,
    "restart_window": check_restart_window,
    "routes": check_routes,
    "start_timeout": check_start_timeout,
    "stop_signal": check_stop_signal,
    "stop_timeout": check_stop_timeout,
    "success_exit_codes": check_success_exit_codes,
}


def test_every_live_key_is_checked() -> None:
    """The policy's keys are for the gateway (tests/unit/gateway/test_reconfigure.py), `announce` is for the
    registry (tests/unit/discovery/test_session.py), and others are for exports alone."""
    exported = {"image", "build", "dockerfile", "autoscale"}
    assert set(CHECKS) == SERVICE.fields_of(OnReload.LIVE) - {"policy", "announce"} - exported


@pytest.mark.parametrize("key", CHECKS)
async def test_a_live_key_works_on_a_running_instance(rig: MakeRig, tmp_path: Path, key: str) -> None:
    await CHECKS[key](rig, tmp_path)


async def test_timing_of_probes_is_live(rig: MakeRig, tmp_path: Path) -> None:
    health = HealthSpec(http="/healthz", interval=600.0)
    a = ServiceSpec("a", command=(sys.executable, "-c", SICK_ON_DEMAND), health=health)
    r = rig(a)
    await r.supervisor.start()
    (tmp_path / "unhealthy").touch()
    await edit(r, [a], [replace(a, health=replace(health, interval=0.05, retries=2))])
    await r.until_state("a", State.UNHEALTHY)


async def test_an_edit_to_no_restarts_ends_the_wait_for_one(rig: MakeRig) -> None:
    a = ServiceSpec("a", command=("sh", "-c", "exit 7"))
    r = rig(a, clock=FakeClock())
    starting = asyncio.create_task(r.supervisor.start())
    await r.until_state("a", State.BACKOFF)
    await edit(r, [a], [replace(a, max_restarts=9)])
    assert r.service("a").state is State.BACKOFF
    await edit(r, [a], [replace(a, restart=RestartPolicy.NO)])
    await asyncio.wait_for(starting, 60)
    assert (r.service("a").state, r.service("a").reason) == (State.FATAL, "exit 7")


async def test_a_command_that_gets_its_first_route_is_replaced_since_it_has_to_listen(rig: MakeRig) -> None:
    a = ServiceSpec("a", command=("sleep", "600"))
    before = Project("test", None, "msctl.toml", (a,), None, BrokerSpec())
    after = replace(before, services=(replace(a, routes=(RouteSpec("/a", "a"),)),))
    assert diff(before, after).restarted == ("a",)

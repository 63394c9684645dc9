"""From one declaration to the next while services run: what starts anew, and what is kept if that fails."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from msctl.config.diff import diff, with_edited
from msctl.errors import ConfigError, PortTakenError
from msctl.hosting.sources import edited_since
from msctl.model.broker_spec import BrokerSpec
from msctl.model.project import Project
from msctl.model.route_spec import RouteSpec
from msctl.model.service_policies import Dependency, RestartPolicy
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import State
from tests.support.supervisor import MakeRig, Rig, free_port

Write = Callable[[str, str], Path]

APP = """
import os
from aiohttp import web
async def say(request):
    return web.Response(text="hosted")
def create_app():
    app = web.Application()
    app.router.add_get("/", say)
    return app
"""
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"command")
    def log_message(self, *args):
        pass
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


def project(root: Path, *services: ServiceSpec) -> Project:
    return Project("test", root, "msctl.toml", services, None, BrokerSpec())


def server(name: str, **more: object) -> ServiceSpec:
    spec = ServiceSpec(name, command=(sys.executable, "-c", SERVER), routes=(RouteSpec("/", name),))
    return replace(spec, **more)  # type: ignore[arg-type]  # fields of the dataclass


def sleeper(name: str, **more: object) -> ServiceSpec:
    return replace(ServiceSpec(name, command=("sleep", "600")), **more)  # type: ignore[arg-type]  # as above


async def become(r: Rig, old: Project, *services: ServiceSpec) -> Mapping[str, str]:
    """Which services failed, and why."""
    new = replace(old, services=services)
    plan = r.supervisor.prepare(new, with_edited(diff(old, new), old, new, r.supervisor.edited()))
    failed = await plan.apply()
    await plan.finish()
    return failed


async def past(file: Path) -> None:
    """Until the file is older than the clock of files can tell."""
    while edited_since([file], time.time()):
        await asyncio.sleep(0)


async def get(address: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/") as answer:
        return await answer.text()


def pids(r: Rig, service: str) -> list[int | None]:
    return [instance.pid for instance in r.service(service).instances]


async def test_a_successor_is_never_seen_before_it_is_ready(rig: MakeRig, tmp_path: Path) -> None:
    a = server("a")
    r = rig(a)
    await r.supervisor.start()
    before, address = pids(r, "a"), r.service("a").addresses
    r.events.clear()
    assert await become(r, project(tmp_path, a), replace(a, env={"A": "1"})) == {}
    assert r.states("a") == [State.READY]
    assert pids(r, "a") != before
    assert r.service("a").addresses != address
    (endpoint,) = r.registry.endpoints("a")
    assert endpoint.base_url == f"http://{r.service('a').addresses[0]}"
    assert await get(r.service("a").addresses[0]) == "command"


async def test_one_that_fails_leaves_everything_as_it_was(rig: MakeRig, tmp_path: Path) -> None:
    a = server("a")
    r = rig(a)
    await r.supervisor.start()
    before, endpoints = r.service("a"), r.registry.endpoints("a")
    r.events.clear()
    broken = replace(a, command=(sys.executable, "-c", "raise SystemExit(3)"), stop_timeout=1.5)
    assert await become(r, project(tmp_path, a), broken) == {"a": "exit 3"}
    assert r.events == []
    assert pids(r, "a") == [before.pid]
    assert r.registry.endpoints("a") == endpoints


async def test_an_address_that_others_were_told_stays(rig: MakeRig, tmp_path: Path) -> None:
    a, b = server("a"), sleeper("b", depends_on=(Dependency("a"),))
    r = rig(a, b)
    await r.supervisor.start()
    address, other = r.service("a").addresses, pids(r, "b")
    assert await become(r, project(tmp_path, a, b), replace(a, env={"A": "1"}), b) == {}
    assert r.service("a").addresses == address
    assert pids(r, "b") == other


async def test_a_hosted_service_and_a_command_can_hand_over_one_port(
    rig: MakeRig, write: Write, tmp_path: Path
) -> None:
    write("hosted_then.py", APP)
    port = free_port()
    hosted = ServiceSpec("a", app="hosted_then:create_app", port=port)
    command = replace(server("a"), port=port)
    r = rig(hosted)
    await r.supervisor.start()
    assert await become(r, project(tmp_path, hosted), command) == {}
    assert await get(f"127.0.0.1:{port}") == "command"
    broken = replace(hosted, app="nowhere:app")
    assert "nowhere" in (await become(r, project(tmp_path, command), broken))["a"]
    await r.until_state("a", State.READY)
    assert await get(f"127.0.0.1:{port}") == "command"
    assert await become(r, project(tmp_path, command), hosted) == {}
    assert await get(f"127.0.0.1:{port}") == "hosted"
    moved = replace(hosted, port=free_port())
    assert await become(r, project(tmp_path, hosted), moved) == {}
    assert await get(f"127.0.0.1:{moved.port}") == "hosted"
    with pytest.raises(aiohttp.ClientError):
        await get(f"127.0.0.1:{port}")


async def test_replicas_follow_the_file_and_else_stay_as_they_were_scaled(
    rig: MakeRig, tmp_path: Path
) -> None:
    a = sleeper("a")
    r = rig(a)
    await r.supervisor.start()
    three = replace(a, replicas=3)
    first = pids(r, "a")
    assert await become(r, project(tmp_path, a), three) == {}
    assert [i.state for i in r.service("a").instances] == [State.READY] * 3
    assert pids(r, "a")[:1] == first
    await r.supervisor.scale({"a": 2})
    edited = replace(three, env={"A": "1"})
    assert await become(r, project(tmp_path, three), edited) == {}
    assert len(pids(r, "a")) == 2
    assert first[0] not in pids(r, "a")
    assert await become(r, project(tmp_path, edited), replace(a, env={"A": "2"})) == {}
    assert [i.state for i in r.service("a").instances] == [State.READY]


async def test_what_is_stopped_stays_so_and_runs_as_declared_when_it_is_started(
    rig: MakeRig, tmp_path: Path
) -> None:
    a = ServiceSpec("a", command=("sh", "-c", "echo $WORD; sleep 600"), env={"WORD": "old"})
    r = rig(a)
    new = replace(a, env={"WORD": "new"})
    late = sleeper("late", autostart=False)
    assert await become(r, project(tmp_path, a), new, late) == {}
    assert {r.service(name).state for name in ("a", "late")} == {State.STOPPED}
    await r.supervisor.start(["a"])
    await r.until(lambda: "new" in r.text("a"))


async def test_an_edited_oneshot_runs_again(rig: MakeRig, tmp_path: Path) -> None:
    a = ServiceSpec("a", command=("echo", "one"), oneshot=True)
    r = rig(a)
    await r.supervisor.start()
    two = replace(a, command=("echo", "two"))
    assert await become(r, project(tmp_path, a), two) == {}
    assert r.text("a").splitlines() == ["one", "two"]
    broken = replace(a, command=("false",), restart=RestartPolicy.NO)
    assert await become(r, project(tmp_path, two), broken) == {"a": "a-1 is fatal: exit 1"}


async def test_a_taken_port_or_a_cycle_is_refused_before_anything_changes(
    rig: MakeRig, write: Write, tmp_path: Path
) -> None:
    import socket

    write("hosted_taken.py", APP)
    a = sleeper("a")
    r = rig(a)
    await r.supervisor.start()
    before, free = pids(r, "a"), free_port()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        for bad in (server("b", port=taken), ServiceSpec("b", app="hosted_taken:create_app", port=taken)):
            good = ServiceSpec("c", app="hosted_taken:create_app", port=free)
            with pytest.raises(PortTakenError, match="'b'"):
                await become(r, project(tmp_path, a), replace(a, env={"A": "1"}), good, bad)
    with pytest.raises(ConfigError, match="cycle"):
        await become(r, project(tmp_path, a), replace(a, depends_on=(Dependency("a"),)))
    assert pids(r, "a") == before
    assert [s.name for s in r.supervisor.snapshot()] == ["a"]


async def test_a_file_of_the_project_leads_to_the_services_made_of_it(
    rig: MakeRig, write: Write, tmp_path: Path
) -> None:
    write("one_of_two.py", APP)
    await past(write("two_of_two.py", APP))
    one = ServiceSpec("one", app="one_of_two:create_app", port=free_port())
    two = ServiceSpec("two", app="two_of_two:create_app", port=free_port())
    r = rig(one, two)
    await r.supervisor.start()
    assert r.supervisor.files() == {tmp_path / "one_of_two.py", tmp_path / "two_of_two.py"}
    await past(write("one_of_two.py", APP.replace("hosted", "edited")))
    assert r.supervisor.edited() == ["one"]
    assert await become(r, project(tmp_path, one, two), one, two) == {}
    assert await get(f"127.0.0.1:{one.port}") == "edited"
    assert r.supervisor.edited() == []

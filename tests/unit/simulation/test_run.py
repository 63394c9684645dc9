"""A project is run on virtual time: the same seed gives the same run, and planted faults are found."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from msctl.config.reading.load import load
from msctl.errors import MsctlError
from msctl.model.project import Project
from msctl.simulation import virtual_time
from msctl.simulation.faults import FaultKind
from msctl.simulation.run import RunResult, Scenario, shrink, simulate_once
from msctl.simulation.scenario import load_scenario
from msctl.simulation.world import World

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""What a run leaves is dropped, not closed, as after a crash."""


NETWORK = [FaultKind.CUT, FaultKind.PARTITION, FaultKind.DELAY]
APP = """
import datetime, os, random, time, uuid
from aiohttp import web

KEPT = []

async def show(request):
    return web.json_response({
        "time": time.time(), "date": str(datetime.datetime.now(datetime.UTC)), "random": random.random(),
        "uuid": str(uuid.uuid4()), "bytes": os.urandom(4).hex(), "kept": len(KEPT),
    })

async def keep(request):
    KEPT.append(1)
    return web.Response(status=204)

async def bad(request):
    BAD

def create_app():
    app = web.Application()
    app.router.add_get("/api", show)
    app.router.add_post("/api", keep)
    app.router.add_get("/api/bad", bad)
    return app
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "api.py").write_text(APP)
    (tmp_path / "msctl.toml").write_text(
        '[services.api]\napp = "api:create_app"\nroutes = ["/api"]\n[services.tool]\ncommand = "tool"\n'
    )
    found = load(file=tmp_path / "msctl.toml", cwd=tmp_path, env={}, env_file=None, overrides={})
    return found.project


async def tool(scope: object, receive: object, send: object) -> None:
    raise AssertionError("nobody calls it")


def stubs() -> dict[str, object]:
    return {"tool": tool}


async def ask(world: World) -> None:
    for _ in range(10):
        async with world.http.get("/api") as response:
            world.note(await response.text())
        await world.sleep(3)


def play(project: Project, seed: int = 1, kinds: list[FaultKind] = NETWORK, **options: object) -> RunResult:
    return simulate_once(project, Scenario(ask, stubs), seed, kinds, **options)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_run_and_another_one_another(project: Project) -> None:
    first, again, other = play(project, 5), play(project, 5), play(project, 6)
    assert (first.digest, first.history) == (again.digest, again.history)
    assert first.digest != other.digest
    assert not first.failure


def test_time_and_chance_are_virtual(project: Project) -> None:
    said = [event.what for event in play(project, 3).history if event.what.startswith("{")]
    assert len(set(said)) == len(said) > 5
    assert "2027-01-15" in said[0]


def test_a_crash_loses_the_memory_of_a_service(project: Project) -> None:
    async def scenario(world: World) -> None:
        async with world.http.post("/api"):
            pass
        await world.settle()
        async with world.http.get("/api") as response:
            world.expect((await response.json())["kept"] == 1, "it is kept")

    found = simulate_once(project, Scenario(scenario, stubs, seconds=40), 1, [])
    assert found.failure == ""
    crashed = [
        simulate_once(project, Scenario(scenario, stubs, seconds=40), n, [FaultKind.CRASH]) for n in (1, 2, 3)
    ]
    assert any(one.failure == "it is kept" for one in crashed)


def test_a_failure_names_the_line_of_the_scenario_and_needs_few_faults(
    project: Project, tmp_path: Path
) -> None:
    file = tmp_path / "fragile.py"
    file.write_text(
        "from msctl.simulation.world import World\n"
        "async def scenario(world):\n"
        "    for _ in range(30):\n"
        "        async with world.http.get('/api') as response:\n"
        "            assert response.status == 200, f'status {response.status}'\n"
        "        await world.sleep(1)\n"
    )
    loaded = load_scenario(file)
    scenario = Scenario(loaded.run, stubs, 40, file)
    failed = next(
        found
        for seed in range(1, 40)
        if (found := simulate_once(project, scenario, seed, [FaultKind.CRASH])).failure
    )
    assert failed.where == f"{file}:5"
    assert failed.failure.startswith("status 5")
    shortest = shrink(project, scenario, failed, [FaultKind.CRASH])
    assert shortest.failure
    assert len(shortest.faults) == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import time; time.sleep(5)", "time.sleep"),
        ("import threading; threading.Thread(target=print).start()", "thread"),
        ("import socket; socket.create_connection(('127.0.0.1', 9))", "blocking socket"),
        ("import asyncio; await asyncio.create_subprocess_exec('true')", "subprocess"),
        ("await world.eventually(lambda: False, 'peace', within=5)", "peace did not come true within 5 s"),
        ("import asyncio; await asyncio.Event().wait()", "did not end"),
        ("world.exactly_once([1, 1], [1])", "more than once"),
        ("world.exactly_once([], [1])", "did not happen"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("import subprocess; subprocess.run(['true'])", "subprocess"),
        ("import socket; socket.getaddrinfo('example.test', 80)", "example.test"),
        ("import urllib.request; urllib.request.urlopen('http://example.test')", "example.test"),
        ("import asyncio; await asyncio.to_thread(__import__('time').sleep, 1)", "time.sleep"),
        ("import asyncio\n    while True: await asyncio.sleep(0)", "clock stands"),
    ],
)
def test_what_a_scenario_must_not_do_is_said(
    project: Project, tmp_path: Path, code: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(virtual_time, "MOST_CALLBACKS_A_MOMENT", 20_000)
    file = tmp_path / "bad.py"
    file.write_text(f"async def scenario(world):\n    {code}\n")
    found = simulate_once(project, Scenario(load_scenario(file).run, stubs, 10, file), 1, [], longest=100)
    assert message in found.failure
    assert found.where in (f"{file}:2", f"{file}:3")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("time.sleep(5)", "time.sleep"),
        ("import threading; threading.Thread(target=print).start()", "thread"),
        ("import subprocess; subprocess.run(['true'])", "subprocess"),
    ],
)
def test_what_a_handler_must_not_do_ends_the_run_though_the_framework_catches_it(
    project: Project, tmp_path: Path, code: str, message: str
) -> None:
    (tmp_path / "api.py").write_text(APP.replace("BAD", code))

    async def scenario(world: World) -> None:
        async with world.http.get("/api/bad") as response:
            await response.read()

    found = simulate_once(project, Scenario(scenario, stubs), 1, [])
    assert message in found.failure
    line = next(at for at, text in enumerate((APP.replace("BAD", code)).splitlines(), 1) if code in text)
    assert found.where == f"{tmp_path / 'api.py'}:{line}"


def test_what_a_handler_raises_is_in_the_history_and_its_request_in_the_trace(project: Project) -> None:
    async def scenario(world: World) -> None:
        async with world.http.get("/api/bad") as response:
            world.expect(response.status == 200, "an answer")

    found = simulate_once(project, Scenario(scenario, stubs), 1, [], traced=True)
    assert any("NameError" in event.what and "api.py" in event.what for event in found.history)
    assert found.trace is not None
    gateway, api = found.trace.spans
    assert (gateway.service, api.service, api.parent_id) == ("gateway", "api", gateway.span_id)
    assert api.attributes["http.response.status_code"] == 500
    assert found.digest == simulate_once(project, Scenario(scenario, stubs), 1, []).digest


def test_libraries_that_a_run_has_imported_follow_the_next_run(project: Project, tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    library = tmp_path / "library" / "site-packages" / "taken_clock.py"
    library.parent.mkdir()
    library.write_text("from time import time\nfrom datetime import datetime\n")

    async def scenario(world: World) -> None:
        import taken_clock  # type: ignore[import-not-found]  # it is made above

        await world.sleep(5)
        seen = taken_clock.time(), taken_clock.datetime.now().timestamp(), time.time()
        world.expect(seen[0] == seen[1] == seen[2], f"one clock, not {seen}")

    sys.path.append(str(library.parent))
    try:
        for _ in range(2):
            assert simulate_once(project, Scenario(scenario, stubs), 1, []).failure == ""
    finally:
        sys.path.remove(str(library.parent))
        del sys.modules["taken_clock"]


def test_a_wsgi_application_is_refused_by_name(project: Project) -> None:
    def wsgi(environ: object, start_response: object) -> list[bytes]:
        return []

    with pytest.raises(MsctlError, match=r"threads.*: tool"):
        simulate_once(project, Scenario(ask, lambda: {"tool": wsgi}), 1, [])


def test_a_stub_of_no_service_is_refused(project: Project) -> None:
    scenario = Scenario(ask, lambda: {**stubs(), "tol": tool})
    with pytest.raises(MsctlError, match="'tol'"):
        simulate_once(project, scenario, 1, [])


def test_a_command_without_a_stub_is_refused_by_name(project: Project) -> None:
    with pytest.raises(MsctlError, match="tool"):
        simulate_once(project, Scenario(ask), 1, [])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def scenario(world): pass", "no scenario"),
        ("async def scenario(world)", ":1:"),
        ("\n1 / 0", ":2: ZeroDivisionError"),
        ("async def scenario(world): pass\nstubs = 1", "stubs"),
        ("async def scenario(world): pass\nseconds = -1", "seconds"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused(tmp_path: Path, source: str, message: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(source)
    with pytest.raises(MsctlError, match=message):
        load_scenario(file)
    with pytest.raises(MsctlError, match="cannot read"):
        load_scenario(tmp_path / "none.py")

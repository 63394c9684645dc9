"""A stack in this process, from its first moment to its last."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from msctl.cli.launch.claim import Claim
from msctl.clock import SystemClock
from msctl.config.reading.load import load
from msctl.control.paths import stack_paths
from msctl.errors import ConfigError, MsctlError, UnknownServiceError
from msctl.model.events import LogQuery
from msctl.model.project import Project
from msctl.model.snapshots import BrokerMode, State
from msctl.runtime.reload_request import ProjectSource
from msctl.runtime.stack import Stack
from msctl.telemetry.logs.hub import LogHub
from tests.support.ports import reserved_port

APP = """
from aiohttp import web
async def word(request):
    return web.Response(text="{word}")
def create_app(context):
    app = web.Application()
    app.router.add_get("/word", word)
    return app
"""
CONFIGURATION = """
[services.words]
app = "{module}:create_app"
routes = ["/word"]
[services.client]
app = "{module}:create_app"
depends_on = ["words"]
autostart = false
[gateway]
port = {gateway}
service_addresses = "all"
[broker]
mode = "embedded"
url = "amqp://guest:guest@127.0.0.1:{broker}/"
definitions = "definitions.json"
[dashboard]
port = 0
"""


@dataclass
class Rig:
    """A stack that is up, and how its project is edited."""

    stack: Stack
    folder: Path
    gateway: int
    logs: LogHub

    def write(self, text: str) -> None:
        (self.folder / "msctl.toml").write_text(text)

    def project(self) -> Project:
        return load(file=self.folder, cwd=self.folder, env={}).project

    async def get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.gateway}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.text()


@pytest_asyncio.fixture
async def rig(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    module = f"words_{secrets.token_hex(4)}"  # no other test of this process imports it
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / f"{module}.py").write_text(APP.format(word="hello"))
    with ExitStack() as ports:
        gateway, broker = (ports.enter_context(reserved_port()) for _ in range(2))
        text = CONFIGURATION.format(module=module, gateway=gateway, broker=broker)
        (folder / "msctl.toml").write_text(text)
        (folder / "definitions.json").write_text("{}")
        project = load(file=folder, cwd=folder, env={}).project
        paths = stack_paths(
            project.name, project.root, {"MSCTL_RUNTIME_DIR": str(tmp_path_factory.mktemp("r"))}
        )
        paths.prepare()
        claim = Claim.take(paths)
        assert claim is not None
        clock = SystemClock(asyncio.sleep)
        logs = LogHub(clock)
        stack = Stack(
            project,
            ProjectSource(lambda: load(file=folder, cwd=folder, env={}).project),
            paths,
            [],
            listening=claim.listening,
            runs=tmp_path / "runs",
            broker_log=tmp_path / "broker",
            clock=clock,
            logs=logs,
            serve_argv=lambda service, instance: ["false", service, instance],
        )
        try:
            await stack.open()
            await stack.up()
            yield Rig(stack, folder, gateway, logs)
        finally:
            await stack.close()
            claim.lock.close()
        assert not paths.record.exists()


async def states(stack: Stack) -> dict[str, State]:
    return {service.name: service.state for service in (await stack.snapshot()).services}


async def test_what_starts_by_itself_is_up_and_the_rest_can_be_started(rig: Rig) -> None:
    assert await states(rig.stack) == {
        "words": State.READY,
        "client": State.STOPPED,
        "gateway": State.READY,
    }
    assert await rig.get("/word") == (200, "hello")
    await rig.stack.start(["client"])
    assert (await states(rig.stack))["client"] is State.READY
    variables = await rig.stack.variables("client")
    assert variables.overrides["WORDS_URL"].startswith("http://127.0.0.1:")
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{variables.overrides['WORDS_URL']}/word") as answer,
    ):
        assert await answer.text() == "hello"


async def test_a_stopped_service_is_503_and_a_restarted_one_serves(rig: Rig) -> None:
    await rig.stack.stop(["words"])
    assert (await rig.get("/word"))[0] == 503
    await rig.stack.restart(["words"])
    assert (await rig.get("/word"))[0] == 200


async def test_a_snapshot_shows_broker_and_page(rig: Rig) -> None:
    snapshot = await rig.stack.snapshot()
    assert snapshot.broker.mode is BrokerMode.EMBEDDED
    assert snapshot.broker.state is State.READY
    assert snapshot.dashboard is not None
    assert snapshot.pid == os.getpid()


async def test_edited_definitions_of_the_broker_are_applied_by_a_reload(rig: Rig) -> None:
    file = rig.folder / "definitions.json"
    file.write_text('{"queues": [{"vhost": "/", "name": "defined"}]}')
    assert "updated the broker's definitions" in (await rig.stack.reload()).done()
    snapshot = await rig.stack.snapshot()
    assert [queue.name for queue in snapshot.broker.queues or ()] == ["defined"]
    file.write_text('{"queues": [{"vhost": "gone", "name": "defined"}]}')
    with pytest.raises(ConfigError, match=r"queues\[0\]\.vhost"):
        await rig.stack.reload()
    assert (await rig.stack.snapshot()).broker.state is State.READY


async def test_routes_are_listed_and_explained(rig: Rig) -> None:
    assert [route.path for route in rig.stack.routes()] == ["/word"]
    assert rig.stack.explain("GET", "/word", {}).service == "words"


async def test_an_edit_is_applied_by_a_reload_and_a_bad_one_is_refused(rig: Rig) -> None:
    text = (rig.folder / "msctl.toml").read_text()
    rig.write(text.replace('routes = ["/word"]', 'routes = ["/word", "/other"]'))
    result = await rig.stack.reload()
    assert result.gateway
    assert {route.path for route in rig.stack.routes()} == {"/word", "/other"}
    rig.write("[services.words]\n")
    with pytest.raises(ConfigError):
        await rig.stack.reload()
    assert await rig.get("/word") == (200, "hello")


async def test_events_and_logs_tell_what_happens(rig: Rig) -> None:
    events = rig.stack.events()
    first = [await anext(events) for _ in range(3)]
    assert {event.service for event in first} == {"words", "client", "gateway"}
    await rig.stack.stop(["words"])
    assert (await anext(events)).service == "words"
    rig.logs.append("words", "a line")
    assert [line.text async for line in rig.stack.logs(LogQuery(services=("w*",)))] == ["a line"]


async def test_a_queue_of_the_broker_is_purged_and_deleted(rig: Rig) -> None:
    for work in (rig.stack.purge_queue, rig.stack.delete_queue):
        with pytest.raises(MsctlError):
            await work("no-such-queue")


async def test_unknown_names_are_refused(rig: Rig) -> None:
    with pytest.raises(UnknownServiceError):
        await rig.stack.start(["nobody"])
    with pytest.raises(UnknownServiceError):
        await rig.stack.scale({"nobody": 2})

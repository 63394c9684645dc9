"""The docker broker runs the course's container through whatever engine answers, and removes it.

No engine can be had on every machine, so a program of ours stands in for the engine's command line; it
serves AMQP as the container would.
"""

from __future__ import annotations

import json
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from msctl.amqp.probe import speaks_amqp
from msctl.brokers.docker import IMAGE, DockerBroker
from msctl.brokers.node_definitions import ReadDefinitions, node_definitions
from msctl.errors import BrokerError, MsctlError
from msctl.model.broker_spec import BrokerSpec
from msctl.model.snapshots import BrokerMode, State
from msctl.secret import Secret
from tests.support.ports import reserved_port

SOURCE = Path(__file__).parents[2] / "src"

ENGINE = """#!{python}
import os, signal, sys
from pathlib import Path

folder = Path(__file__).parent
(folder / "calls").open("a").write(" ".join(sys.argv[1:]) + "\\n")
verb = sys.argv[1]
if verb == "info":
    sys.exit({info})
if verb == "rm":
    os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
    sys.exit(0)
(folder / "pid").write_text(str(os.getpid()))
(folder / "user").write_text(os.environ["RABBITMQ_DEFAULT_USER"] + ":" + os.environ["RABBITMQ_DEFAULT_PASS"])
if {fails}:
    print("docker: no such image")
    sys.exit(125)
sys.path.insert(0, {source!r})
import asyncio
from msctl.broker.server import BrokerServer
from msctl.clock import SystemClock

published = next(word for word in sys.argv if word.endswith(":5672"))
host, port, _ = published.split(":")

async def main():
    await BrokerServer(clock=SystemClock(), log=print).start(host, int(port))
    for part in ("started TCP ", "listener\\nready"):  # a pipe knows nothing of lines
        print(part, end="", flush=True)
        await asyncio.sleep(0)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def port() -> Iterator[int]:
    with reserved_port() as chosen:
        yield chosen


def engine(folder: Path, monkeypatch: pytest.MonkeyPatch, *, info: int = 0, fails: bool = False) -> None:
    program = folder / "docker"
    program.write_text(ENGINE.format(python=sys.executable, info=info, fails=fails, source=str(SOURCE)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def broker(
    port: int, said: list[str], folder: Path = Path(), definitions: ReadDefinitions = lambda _url: None
) -> DockerBroker:
    spec = BrokerSpec(BrokerMode.DOCKER, f"amqp://me:s3cret@127.0.0.1:{port}/")
    return DockerBroker(spec, folder, log=lambda _level, text: said.append(text), definitions=definitions)


async def test_the_courses_container_is_run_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    engine(tmp_path, monkeypatch)
    said: list[str] = []
    docker = broker(port, said)
    await docker.start()
    snapshot = await docker.snapshot()
    assert (snapshot.mode, snapshot.state) == (BrokerMode.DOCKER, State.READY)
    assert "s3cret" not in snapshot.url
    assert await speaks_amqp(docker.url)
    await docker.stop()
    assert not await speaks_amqp(docker.url)
    assert (await docker.snapshot()).state is State.STOPPED
    assert said == ["started TCP listener", "ready"]
    calls = (tmp_path / "calls").read_text()
    assert IMAGE in calls
    assert f"127.0.0.1:{port}:5672" in calls
    assert "127.0.0.1:15672:15672" in calls
    assert "s3cret" not in calls, "a command line is everybody's to read"
    assert (tmp_path / "user").read_text() == "me:s3cret"


async def test_the_container_reads_the_projects_definitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    engine(tmp_path, monkeypatch)
    declared = {"queues": [{"vhost": "/", "name": "orders"}]}
    read = lambda url: node_definitions(declared, url, {"guest": Secret("guest")})  # noqa: E731
    docker = broker(port, [], tmp_path / "files", read)
    await docker.start()
    await docker.stop()
    calls = (tmp_path / "calls").read_text()
    mounted = dict(re.findall(r"--mount type=bind,source=(\S+),target=(\S+),readonly", calls))
    (document,) = (source for source, target in mounted.items() if target == "/etc/rabbitmq/definitions.json")
    (settings,) = (source for source, target in mounted.items() if "/etc/rabbitmq/conf.d/" in target)
    assert json.loads(Path(document).read_text())["queues"][0]["name"] == "orders"
    assert Path(settings).read_text() == "load_definitions = /etc/rabbitmq/definitions.json\n"
    assert stat.S_IMODE((tmp_path / "files").stat().st_mode) == 0o700


async def test_a_container_that_does_not_come_up_is_reported_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    engine(tmp_path, monkeypatch, fails=True)
    docker = broker(port, [])
    with pytest.raises(BrokerError, match="no such image") as caught:
        await docker.start()
    assert caught.value.hint is not None
    assert IMAGE in caught.value.hint
    assert (await docker.snapshot()).state is State.FATAL


async def test_an_engine_that_does_not_answer_is_refused_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    engine(tmp_path, monkeypatch, info=1)
    with pytest.raises(BrokerError, match="docker found, but no engine answers") as caught:
        await broker(port, []).start()
    assert "auto" in str(caught.value.hint)


async def test_without_an_engine_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match="none is installed"):
        await broker(port, []).start()


def test_its_queues_are_not_ours_to_change(port: int) -> None:
    for verb in (broker(port, []).purge, broker(port, []).delete):
        with pytest.raises(MsctlError) as caught:
            verb("hello")
        assert "15672" in str(caught.value.hint)

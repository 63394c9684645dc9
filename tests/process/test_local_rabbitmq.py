"""The `local` broker: a private RabbitMQ child that leaves nothing behind. Real nodes, real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import sys
import textwrap
from pathlib import Path

import aio_pika
import psutil
import pytest

from msctl.broker.storage.storage import StorageSpec
from msctl.brokers import local_rabbitmq, rabbitmq_files
from msctl.brokers.local_rabbitmq import RabbitNode
from msctl.brokers.modes import LocalBroker
from msctl.brokers.rabbitmq_files import RabbitSettings
from msctl.clock import SystemClock
from msctl.errors import BrokerError, PortTakenError, TimedOutError
from msctl.model.broker_spec import BrokerSpec
from msctl.model.broker_url import parse_url
from msctl.model.project import Project
from msctl.model.snapshots import BrokerMode
from msctl.runtime.embedded_host import EmbeddedHost
from msctl.secret import Secret
from tests.support.rabbitmq import require_binary
from tests.support.supervisor import alive

pytestmark = pytest.mark.rabbitmq


class Log(list[tuple[str, str]]):
    """Collects what a node logs."""

    def __call__(self, level: str, text: str) -> None:
        self.append((level, text))

    @property
    def text(self) -> str:
        return "\n".join(text for _, text in self)


@pytest.fixture
def log() -> Log:
    return Log()


def fake_server(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a `rabbitmq-server` that is the given shell script first on PATH."""
    program = folder / "bin" / "rabbitmq-server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n" + textwrap.dedent(body))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def descendants(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and alive(one.pid)]


def listening(process: psutil.Process) -> set[int]:
    """The ports of a process; it may be a helper that has ended."""
    try:
        found = process.net_connections("tcp")
    except psutil.NoSuchProcess:
        return set()
    return {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}


async def test_two_nodes_run_side_by_side_and_leave_no_process_or_port(tmp_path: Path, log: Log) -> None:
    require_binary()
    nodes = [RabbitNode(RabbitSettings("127.0.0.1", 0, tmp_path / name), log=log) for name in "ab"]
    try:
        urls = await asyncio.gather(*(node.start() for node in nodes))
        assert urls[0] != urls[1]
        processes: list[psutil.Process] = []
        for node, url in zip(nodes, urls, strict=True):
            assert node.pid is not None
            processes += descendants(node.pid)
            assert node.version is not None and node.version[0].isdigit()
            async with await aio_pika.connect(url) as connection:
                channel = await connection.channel()
                queue = await channel.declare_queue("hello")
                await channel.default_exchange.publish(aio_pika.Message(url.encode()), "hello")
                message = await queue.get()
                assert message.body == url.encode()  # each has its own queue `hello`
        ports = [port for one in processes for port in listening(one)]
        assert len(set(ports)) == 2, "AMQP and nothing else: no distribution, no epmd"
    finally:
        await asyncio.gather(*(node.stop() for node in nodes))
    assert still_there(processes) == []
    assert [node.pid for node in nodes] == [None, None]
    for url in urls:
        port = int(url.rstrip("/").rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
    assert ("info" in {level for level, _ in log}) and "Server startup complete" in log.text
    await nodes[0].stop()  # a second stop does nothing


async def test_killed_node_is_noticed_and_keeps_durable_messages(tmp_path: Path, log: Log) -> None:
    require_binary()
    settings = RabbitSettings("127.0.0.1", 0, tmp_path / "node", user="an na", password='p"/@å')
    node = RabbitNode(settings, log=log)
    try:
        async with await aio_pika.connect(await node.start()) as connection:
            channel = await connection.channel()
            await channel.declare_queue("kept", durable=True)
            message = aio_pika.Message(b"still here", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, "kept")
    finally:
        await node.stop()  # it confirms a declaration before its database has written it
    node = RabbitNode(settings, log=log)
    try:
        await node.start()
        pid = node.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(node.wait(), 60) == -signal.SIGKILL
        assert not node.pid
    finally:
        await node.stop()
    node = RabbitNode(settings, log=log)
    try:
        async with await aio_pika.connect(await node.start()) as connection:
            queue = await (await connection.channel()).get_queue("kept")
            assert (await queue.get()).body == b"still here"
    finally:
        await node.stop()


async def test_password_that_the_folder_does_not_have_is_explained(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch, rabbitmq: str
) -> None:
    fake_server(tmp_path, "exec sleep 60", monkeypatch)
    port = int(rabbitmq.rstrip("/").rpartition(":")[2])
    monkeypatch.setattr(local_rabbitmq, "_listening_ports", lambda pid: [port])
    folder = tmp_path / "node"
    folder.mkdir()
    node = RabbitNode(RabbitSettings("127.0.0.1", 0, folder, password="another"), log=log)
    with pytest.raises(BrokerError, match=r"refused user 'guest': 403 ACCESS_REFUSED"):
        await node.start()
    assert node.pid is None
    assert folder.exists(), "a folder that was there before keeps its messages"


async def test_node_dies_with_its_parent(tmp_path: Path) -> None:
    require_binary()
    if sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent is gone")
    program = f"""
        import asyncio, pathlib
        from msctl.brokers.local_rabbitmq import RabbitNode
        from msctl.brokers.rabbitmq_files import RabbitSettings

        async def main():
            folder = pathlib.Path({str(tmp_path / "node")!r})
            node = RabbitNode(RabbitSettings("127.0.0.1", 0, folder), log=lambda *_: None)
            await node.start()
            print(node.pid, flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """
    source = str(Path(rabbitmq_files.__file__).parents[2])
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(program),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": source},
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 60))
    processes = descendants(pid)
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    _gone, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=60)
    for one in alive:
        one.kill()
    assert not alive


async def test_taken_port_is_said_before_anything_starts(tmp_path: Path, log: Log) -> None:
    require_binary()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        node = RabbitNode(RabbitSettings("127.0.0.1", port, tmp_path / "node"), log=log)
        with pytest.raises(PortTakenError, match=f"127.0.0.1:{port}"):
            await node.start()
    assert node.pid is None
    assert not (tmp_path / "node").exists()


async def test_missing_program_is_a_hint_to_install_it(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(rabbitmq_files, "_BINARY_FOLDERS", (tmp_path,))
    with pytest.raises(BrokerError, match=r"no rabbitmq-server") as caught:
        await RabbitNode(RabbitSettings("127.0.0.1", 0, tmp_path / "node"), log=log).start()
    assert caught.value.hint is not None
    assert "apt-get install rabbitmq-server" in caught.value.hint


async def test_node_that_fails_to_boot_is_reported_with_its_last_lines(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_server(
        tmp_path,
        """
        echo '2026-01-01 00:00:00.000000+00:00 [error] <0.1.0> no space left for the schema'
        printf 'unfinished'
        exit 70
        """,
        monkeypatch,
    )
    node = RabbitNode(RabbitSettings("127.0.0.1", 0, tmp_path / "node"), log=log)
    with pytest.raises(BrokerError, match=r"exit code 70.*\n  no space left for the schema\n  unfinished"):
        await node.start()
    assert log == [("error", "no space left for the schema"), ("info", "unfinished")]
    assert node.pid is None
    assert not (tmp_path / "node").exists(), "a folder made for a start that failed is removed"


async def test_slow_node_is_given_up_and_killed_with_its_helpers(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_server(
        tmp_path, f"trap '' TERM; setsid sleep 60 & echo $! >{tmp_path}/helper; sleep 60", monkeypatch
    )
    real_stop = RabbitNode.stop

    async def impatient_stop(self: RabbitNode, timeout: float = 10.0) -> None:
        await real_stop(self, timeout=0.1)

    monkeypatch.setattr(RabbitNode, "stop", impatient_stop)
    settings = RabbitSettings("127.0.0.1", 0, tmp_path / "node", start_timeout=2.0)
    with pytest.raises(TimedOutError, match=r"not ready after 2 s"):
        await RabbitNode(settings, log=log).start()
    assert ("warning", "RabbitMQ did not stop within 0.1 s and is killed") in log
    helper = int((tmp_path / "helper").read_text())
    assert not psutil.pid_exists(helper) or psutil.Process(helper).status() == psutil.STATUS_ZOMBIE


async def test_long_lines_are_cut_and_colours_removed(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_server(
        tmp_path, "printf '\\033[1mbold\\033[0m\\n'; head -c 100000 /dev/zero | tr '\\0' x", monkeypatch
    )
    with pytest.raises(BrokerError, match="exit code 0"):
        await RabbitNode(RabbitSettings("127.0.0.1", 0, tmp_path / "node"), log=log).start()
    assert log[0] == ("info", "bold")
    assert max(len(text) for _, text in log) < 16 * 1024 + 100


async def test_debian_wrapper_is_passed_over_for_the_script_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_server(tmp_path, "exit 0", monkeypatch)
    wrapper = tmp_path / "bin" / "rabbitmq-server"
    assert rabbitmq_files.find_binary() == wrapper
    script = tmp_path / "script" / "rabbitmq-server"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(rabbitmq_files, "_WRAPPER", wrapper)
    monkeypatch.setattr(rabbitmq_files, "_BINARY_FOLDERS", (script.parent,))
    assert rabbitmq_files.find_binary() == script


def test_another_nodes_settings_are_not_inherited() -> None:
    kept = rabbitmq_files.without_rabbitmq_variables(
        {"PATH": "/bin", "RABBITMQ_NODE_PORT": "5672", "ERL_LIBS": "/x", "NOTIFY_SOCKET": "/s"}
    )
    assert kept == {"PATH": "/bin"}


async def test_node_has_what_the_projects_definitions_have(tmp_path: Path, log: Log) -> None:
    require_binary()
    file = tmp_path / "definitions.json"
    document = {
        "users": [{"name": "app", "password": "p/w+x", "tags": []}],
        "vhosts": [{"name": "shop"}],
        "permissions": [{"user": "app", "vhost": "shop", "configure": "", "write": ".*", "read": "^orders$"}],
        "exchanges": [{"vhost": "shop", "name": "events", "type": "topic"}],
        "queues": [{"vhost": "shop", "name": "orders"}],
        "bindings": [
            {"vhost": "shop", "source": "events", "destination": "orders", "routing_key": "order.#"}
        ],
        "policies": [{"vhost": "shop", "name": "cap", "pattern": "orders", "definition": {"max-length": 1}}],
    }
    file.write_text(json.dumps(document))
    spec = BrokerSpec(
        BrokerMode.LOCAL, "amqp://stack:s3cret@127.0.0.1:0/shop", url_given=True, definitions=file
    )
    host = EmbeddedHost(
        Project("shop", tmp_path, "msctl.toml", (), None, spec),
        clock=SystemClock(asyncio.sleep),
        log=log,
        storage=lambda _spec: StorageSpec(tmp_path / "none"),
        page=lambda: None,
        env={},
    )
    local = LocalBroker(spec, tmp_path / "rabbitmq", log=log, definitions=host.for_node)
    await local.start()
    try:
        found = parse_url(local.url)
        assert (found.user, found.vhost) == ("stack", "shop")
        app = found.changed(user="app", password=Secret("p/w+x"))
        async with await aio_pika.connect(app.text) as connection, connection.channel() as channel:
            exchange = await channel.get_exchange("events")
            for body in (b"1", b"2"):
                await exchange.publish(aio_pika.Message(body), "order.new")
            queue = await channel.get_queue("orders")
            assert [(await queue.get(no_ack=True)).body, await queue.get(fail=False)] == [b"2", None]
    finally:
        await local.stop()
    assert "s3cret" not in log.text
    assert stat.S_IMODE((tmp_path / "rabbitmq" / "definitions.json").stat().st_mode) == 0o600

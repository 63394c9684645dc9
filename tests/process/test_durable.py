"""A project's broker keeps what is durable: over `down`, `kill -9` and a full disk, until `broker reset`."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pytest

from msctl.testing import running_stack
from tests.process.test_full_disk import fill, small_disk
from tests.support.cli import Msctl
from tests.support.ports import reserved_port
from tests.support.waiting import until

__all__ = ["small_disk"]

CONFIG = """
[gateway]
port = {port}

[broker]
mode = "embedded"
url = "amqp://guest:guest@127.0.0.1:{broker}/"
{more}
"""


@pytest.fixture
def project(tmp_path: Path, short_runtime: Path) -> Iterator[Msctl]:
    write_config(tmp_path)
    msctl = Msctl(tmp_path, short_runtime, {})
    try:
        yield msctl
    finally:
        msctl.run("down")


@pytest.fixture
def short_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("r")


def write_config(folder: Path, more: str = "") -> None:
    with reserved_port() as port, reserved_port() as broker:
        (folder / "msctl.toml").write_text(CONFIG.format(port=port, broker=broker, more=more))


async def connect(msctl: Msctl) -> aio_pika.abc.AbstractConnection:
    url = msctl.status()["broker"]["url"].replace("guest@", "guest:guest@")
    return await aio_pika.connect(url)


async def put(msctl: Msctl, *bodies: bytes) -> None:
    """Publish persistent messages to a durable queue, each confirmed."""
    async with await connect(msctl) as connection:
        channel = await connection.channel()
        await channel.declare_queue("orders", durable=True)
        for body in bodies:
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, "orders")


async def bodies(msctl: Msctl) -> list[bytes]:
    """All messages of the queue, taken out."""
    async with await connect(msctl) as connection:
        queue = await (await connection.channel()).declare_queue("orders", durable=True)
        found = []
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            found.append(message.body)
        return found


async def test_what_was_confirmed_is_there_after_down_and_after_kill(project: Msctl) -> None:
    project.ok("up", "-d")
    await put(project, b"one", b"two")
    shown = project.ok("status")
    assert "on disk: 2 messages" in shown
    stored = project.status()["broker"]["storage"]
    assert (stored["durability"], stored["messages"]) == ("process", 2)
    assert Path(stored["folder"]).stat().st_mode & 0o777 == 0o700
    project.ok("down")
    project.ok("up", "-d")
    await put(project, b"three")
    os.kill(project.status()["pid"], signal.SIGKILL)
    project.ok("up", "-d")
    assert await bodies(project) == [b"one", b"two", b"three"]


async def test_reset_deletes_what_is_kept_and_only_while_no_stack_runs(project: Msctl) -> None:
    project.ok("up", "-d")
    await put(project, b"one")
    refused = project.run("broker", "reset")
    assert refused.returncode == 6
    assert "msctl down" in refused.stderr
    project.ok("down")
    assert "deleted" in project.ok("broker", "reset")
    assert "keeps nothing" in project.ok("broker", "reset")
    project.ok("up", "-d")
    assert project.status()["broker"]["queues"] == []


async def test_with_durable_false_nothing_is_kept(project: Msctl) -> None:
    write_config(project.folder, "durable = false")
    project.ok("up", "-d")
    assert project.status()["broker"]["storage"] is None
    await put(project, b"one")
    project.ok("down")
    project.ok("up", "-d")
    assert project.status()["broker"]["queues"] == []


def test_an_isolated_copy_keeps_nothing_unless_durable_is_set(tmp_path: Path) -> None:
    write_config(tmp_path)
    with running_stack(tmp_path) as stack:
        assert stack.snapshot().broker.storage is None
    with running_stack(tmp_path, env={"MSCTL_BROKER_DURABLE": "disk"}) as stack:
        assert stack.snapshot().broker.storage is not None


def test_two_stacks_on_one_log_are_refused_naming_the_other(
    project: Msctl, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project.ok("up", "-d")
    with reserved_port() as port, reserved_port() as broker:
        same_log = {
            "MSCTL_STATE_DIR": str(project.runtime / "state"),
            "MSCTL_BROKER_URL": f"amqp://guest:guest@127.0.0.1:{broker}/",
            "MSCTL_GATEWAY_PORT": str(port),
        }
    refused = Msctl(project.folder, tmp_path_factory.mktemp("s"), same_log).run("up", "-d")
    assert refused.returncode == 6
    assert str(project.status()["pid"]) in refused.stderr
    assert "in use" in refused.stderr


def test_a_folder_that_cannot_be_written_keeps_a_broker_in_memory_unless_durable_is_set(
    project: Msctl, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    project.env["MSCTL_STATE_DIR"] = str(blocked / "state")
    project.ok("up", "-d")
    assert project.status()["broker"]["storage"] is None
    assert "kept in memory" in project.ok("logs", "broker")
    project.ok("down")
    refused = project.run("up", "-d", env={"MSCTL_BROKER_DURABLE": "disk"})
    assert refused.returncode == 6
    assert "durable = false" in refused.stderr


async def test_a_full_disk_blocks_publishers_until_there_is_room(project: Msctl, small_disk: Path) -> None:
    project.env["MSCTL_STATE_DIR"] = str(small_disk / "state")
    project.ok("up", "-d")
    await put(project, b"before")
    free = fill(small_disk)
    connection = await connect(project)
    channel = await connection.channel()
    message = aio_pika.Message(b"x" * 8192, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    publishing = asyncio.create_task(channel.default_exchange.publish(message, "orders"))
    await until(lambda: project.status()["broker"]["blocked"])
    assert "disk alarm" in project.status()["broker"]["reason"]
    assert not publishing.done()
    free()
    assert await publishing is not None
    await until(lambda: not project.status()["broker"]["blocked"])
    await connection.close()
    os.kill(project.status()["pid"], signal.SIGKILL)
    project.ok("up", "-d")
    assert await bodies(project) == [b"before", b"x" * 8192]

"""Confirms and commit-ok leave once the log has what they confirm; a log that cannot be written blocks."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from pamqp import commands

from msctl.broker.core.broker import Alarm
from msctl.broker.storage.folder import LogFolder
from msctl.broker.storage.storage import BACKLOG_SEGMENTS
from msctl.model.snapshots import Durability
from tests.unit.broker.client import Client
from tests.unit.broker.storage.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "state" / "project" / "broker")


def publishing(run: Run, arguments: dict[str, Any] | None = None) -> Client:
    client = Client(run.broker)
    client.open()
    client.call(
        commands.Queue.Declare(queue="q", durable=True, arguments=arguments), commands.Queue.DeclareOk
    )
    client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    return client


def confirms(client: Client) -> list[tuple[str, int | None, bool | None]]:
    """The confirms that have left: what, tag, multiple."""
    client.read()
    return [
        (event.name, event.delivery_tag, event.multiple)
        for _, event in client.events
        if isinstance(event, commands.Basic.Ack | commands.Basic.Nack)
    ]


def test_a_confirm_waits_until_the_message_is_written(run: Run) -> None:
    client = publishing(run)
    client.publish(b"a", delivery_mode=2)
    client.feed(b"".join(client.publish_bytes(body, delivery_mode=2) for body in (b"b", b"c")))
    assert confirms(client) == []
    run.turn()
    assert confirms(client) == [("Basic.Ack", 1, False), ("Basic.Ack", 3, True)]


def test_messages_that_are_not_stored_are_confirmed_at_once(run: Run) -> None:
    client = publishing(run)
    client.publish(b"transient")
    client.publish(b"nowhere", "missing", delivery_mode=2)
    assert confirms(client) == [("Basic.Ack", 1, False), ("Basic.Ack", 2, False)]


def test_a_message_that_a_consumer_takes_without_acks_is_not_stored(run: Run) -> None:
    client = publishing(run)
    client.consume(no_ack=True)
    run.turn()
    client.publish(b"a", delivery_mode=2)
    assert confirms(client) == [("Basic.Ack", 1, False)]
    run.turn()
    assert run.storage.journal.messages == 0


def test_confirms_and_nacks_of_a_channel_keep_their_order(run: Run) -> None:
    client = publishing(run, {"x-max-length": 1, "x-overflow": "reject-publish"})
    client.publish(b"kept", delivery_mode=2)
    client.publish(b"refused", delivery_mode=2)
    client.publish(b"transient", "missing")
    assert confirms(client) == []
    run.turn()
    assert confirms(client) == [("Basic.Ack", 1, False), ("Basic.Nack", 2, False), ("Basic.Ack", 3, False)]


def test_commit_ok_waits_for_publishes_and_acknowledgements(run: Run) -> None:
    client = publishing(run)
    client.publish(b"a", delivery_mode=2)
    client.call(commands.Channel.Open(), commands.Channel.OpenOk, 2)
    client.call(commands.Tx.Select(), commands.Tx.SelectOk, 2)
    run.turn()
    client.send(commands.Basic.Get(queue="q"), 2)
    client.send(commands.Basic.Ack(1), 2)
    client.send(commands.Tx.Commit(), 2)
    assert not any(isinstance(event, commands.Tx.CommitOk) for _, event in client.events)
    run.turn()
    client.read()
    client.take(commands.Tx.CommitOk, 2)
    client.call(commands.Tx.Commit(), commands.Tx.CommitOk, 2)  # nothing to wait for


def test_a_closed_channel_gets_no_confirm(run: Run) -> None:
    client = publishing(run)
    client.publish(b"a", delivery_mode=2)
    client.call(commands.Channel.Close(200, "", 0, 0), commands.Channel.CloseOk)
    run.turn()
    assert confirms(client) == []
    assert not run.broker.deferring


def test_with_disk_a_confirm_waits_for_the_synchronization(tmp_path: Path) -> None:
    ended: SimpleQueue[Callable[[], None]] = SimpleQueue()
    run = Run(tmp_path / "project" / "broker", durability=Durability.DISK, post=ended.put)
    ended.get()()  # the synchronization of the start
    client = publishing(run)
    client.publish(b"a", delivery_mode=2)
    run.storage.turn(tidy=False)
    call = ended.get()  # the thread has synchronized
    assert confirms(client) == []
    call()
    assert confirms(client) == [("Basic.Ack", 1, False)]
    run.kill()


def blocked(run: Run) -> bool:
    return run.broker.blocked


@contextmanager
def full_disk(at: int) -> Iterator[None]:
    """No file of this process can grow beyond `at` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_blocks_publishers_loses_nothing_and_ends_by_itself(tmp_path: Path) -> None:
    folder = tmp_path / "project" / "broker"
    run = Run(folder, segment_size=1 << 20)
    client = publishing(run)
    client.publish(b"before", delivery_mode=2)
    run.turn()
    with full_disk(run.storage.journal.size + 40):
        client.publish(b"x" * 100, delivery_mode=2)
        run.turn()
        assert "cannot be written" in run.broker.alarms[Alarm.DISK]
        client.publish(b"later", delivery_mode=2)
        assert client.take(commands.Connection.Blocked, 0).reason == "low on disk"
        run.storage.tick()
        assert blocked(run)
        assert confirms(client) == [("Basic.Ack", 1, False)]
    run.storage.tick()
    assert not blocked(run)
    client.run()
    client.take(commands.Connection.Unblocked, 0)
    run.turn()
    assert confirms(client)[1:] == [("Basic.Ack", 2, False), ("Basic.Ack", 3, False)]
    run.kill()
    again = Run(folder)
    assert (again.problems, again.cut) == ([], 0)
    assert again.bodies() == [b"before", b"x" * 100, b"later"]
    again.kill()


def test_a_new_segment_that_cannot_be_created_blocks_too(tmp_path: Path) -> None:
    folder = tmp_path / "project" / "broker"
    run = Run(folder, segment_size=300)
    client = publishing(run)
    with full_disk(20):
        client.publish(b"x" * 300, delivery_mode=2)
        run.turn()
        assert blocked(run)
    run.storage.tick()
    run.turn()
    assert not blocked(run)
    run.kill()
    again = Run(folder)
    assert (again.problems, again.bodies()) == ([], [b"x" * 300])
    again.kill()


def test_what_a_failed_synchronization_may_have_lost_is_written_again(tmp_path: Path) -> None:
    folder = tmp_path / "project" / "broker"
    ended: SimpleQueue[Callable[[], None]] = SimpleQueue()
    failing: list[OSError] = []

    class FailingFolder(LogFolder):
        def synchronize(self, descriptor: int) -> None:
            if failing:
                raise failing.pop()
            super().synchronize(descriptor)

    run = Run(folder, durability=Durability.DISK, post=ended.put, open_files=FailingFolder)
    ended.get()()
    client = publishing(run)
    client.publish(b"safe", delivery_mode=2)
    run.storage.turn(tidy=False)
    ended.get()()
    (file,) = folder.glob("*.log")
    safe = file.read_bytes()
    failing.append(OSError(errno.EIO, "Input/output error"))
    client.publish(b"uncertain", delivery_mode=2)
    run.storage.turn(tidy=False)
    ended.get()()
    assert "input/output error" in run.broker.alarms[Alarm.DISK]
    assert confirms(client) == [("Basic.Ack", 1, False)]
    run.storage.tick()
    ended.get()()
    assert not blocked(run)
    assert confirms(client)[1:] == [("Basic.Ack", 2, False)]
    run.kill()
    file.write_bytes(safe)  # the kernel has dropped what it could not write
    again = Run(folder)
    assert (again.problems, again.bodies()) == ([], [b"safe", b"uncertain"])
    again.kill()


def test_a_disk_that_does_not_keep_up_blocks_publishers_until_it_does(tmp_path: Path) -> None:
    ended: SimpleQueue[Callable[[], None]] = SimpleQueue()
    size = 1 << 16
    run = Run(tmp_path / "project" / "broker", segment_size=size, post=ended.put)
    run.declare()
    for _ in range(2 * BACKLOG_SEGMENTS + 2):
        run.publish(bytes(size // 2))
    assert "does not keep up" in run.broker.alarms[Alarm.DISK]
    while blocked(run):
        ended.get()()
    run.kill()


def test_the_names_of_the_first_segment_and_its_folders_are_synchronized_before_a_confirm(
    tmp_path: Path,
) -> None:
    synced: list[int] = []

    class WatchedFolder(LogFolder):
        def sync(self) -> None:
            synced.append(1)
            super().sync()
            assert self._above == ()

    for _ in range(2):  # a new log, and one that a crash left before its name was safe
        ended: SimpleQueue[Callable[[], None]] = SimpleQueue()
        run = Run(
            tmp_path / "project" / "broker",
            durability=Durability.DISK,
            post=ended.put,
            open_files=WatchedFolder,
        )
        ended.get()()
        assert synced.pop()
        run.kill()

"""The control client returns what the stack's SystemView returns."""

from __future__ import annotations

import asyncio
import inspect
import os
import resource
import socket
import stat
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from msctl.control.client import ControlClient, UnreachableError
from msctl.control.paths import StackLock, StackPaths
from msctl.control.peer import open_descriptors
from msctl.control.record import StackRecord
from msctl.control.server import ControlServer
from msctl.errors import MsctlError, NotRunningError, UnknownServiceError
from msctl.model.events import Event, LogLine, LogQuery
from msctl.model.queue_messages import PeekedMessage
from msctl.model.snapshots import (
    BreakerState,
    BrokerMode,
    BrokerSnapshot,
    InstanceSnapshot,
    Kind,
    ServiceSnapshot,
    Snapshot,
    State,
    TargetSnapshot,
)
from msctl.model.views import ReloadResult, SystemView
from tests.support import other_user
from tests.support.other_user import as_root

T = TypeVar("T")


class View:
    """A SystemView that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.error: Exception | None = None
        self.streaming = asyncio.Event()
        self.left = asyncio.Event()

    async def snapshot(self) -> Snapshot:
        if self.error is not None:
            raise self.error
        target = TargetSnapshot("users", "users-1", "in process", BreakerState.OPEN, 2, 3, 4, 1.5)
        instance = InstanceSnapshot("users-1", State.READY, target=target)
        services = (
            ServiceSnapshot(
                "users",
                Kind.HOSTED,
                State.READY,
                addresses=("127.0.0.1:1",),
                uptime_s=1.5,
                instances=(instance,),
            ),
        )
        broker = BrokerSnapshot(BrokerMode.EXTERNAL, State.READY, "amqp://guest:***@localhost/")
        return Snapshot("shop", "/home/me/shop", "1.2.3", 42, 3.5, services, broker)

    async def events(self) -> AsyncIterator[Event]:
        yield Event(1, 1.5, "users", "users-1", State.READY)
        yield Event(2, 2.5, "users", "users-1", State.STOPPED, "stopped")

    async def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        self.asked.append(("logs", query))
        yield LogLine(1, 1.0, "users", "info", "ein Ärger\n\x00")
        if query.follow:
            self.streaming.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()

    async def start(self, services: Sequence[str], *, deps: bool = True) -> Snapshot:
        self.asked.append(("start", tuple(services), deps))
        return await self.snapshot()

    async def apply(self, services: Sequence[str]) -> None:
        self.asked.append(("apply", tuple(services)))

    async def stop(self, services: Sequence[str]) -> Snapshot:
        self.asked.append(("stop", tuple(services)))
        return await self.snapshot()

    async def restart(self, services: Sequence[str], *, deps: bool = True) -> Snapshot:
        self.asked.append(("restart", tuple(services), deps))
        return await self.snapshot()

    async def scale(self, counts: Mapping[str, int]) -> Snapshot:
        self.asked.append(("scale", dict(counts)))
        return await self.snapshot()

    async def reload(self) -> ReloadResult:
        self.asked.append(("reload",))
        return ReloadResult(added=("new",), failed={"users": "exit 1"})

    async def peek_queue(self, name: str) -> Sequence[PeekedMessage]:
        return [PeekedMessage("body", 4)]

    async def purge_queue(self, name: str) -> int:
        self.asked.append(("purge_queue", name))
        return 3

    async def delete_queue(self, name: str) -> int:
        self.asked.append(("delete_queue", name))
        return 4

    async def shutdown(self, timeout: float | None = None) -> None:
        self.asked.append(("shutdown", timeout))


@pytest.fixture
def view() -> View:
    return View()


@pytest.fixture
async def client(view: View, tmp_path: Path) -> AsyncIterator[ControlClient]:
    paths = StackPaths(tmp_path)
    server = ControlServer(view, paths.socket)
    await server.start()
    yield ControlClient(paths, "shop")
    await server.stop()
    assert not paths.socket.exists()


async def far(call: Callable[[], T]) -> T:
    return await asyncio.to_thread(call)


async def test_only_the_owner_can_open_the_socket(client: ControlClient, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600


async def test_a_snapshot_arrives_unchanged(client: ControlClient, view: View) -> None:
    assert await far(client.snapshot) == await view.snapshot()


async def test_verbs_arrive_with_their_arguments(client: ControlClient, view: View) -> None:
    await far(lambda: client.start(["users"], deps=False))
    await far(lambda: client.stop(["users", "hello"]))
    await far(lambda: client.restart([]))
    await far(lambda: client.scale({"users": 3}))
    assert await far(client.reload) == ReloadResult(added=("new",), failed={"users": "exit 1"})
    assert await far(lambda: client.peek_queue("hello")) == (PeekedMessage("body", 4),)
    assert await far(lambda: client.purge_queue("hello")) == 3
    assert await far(lambda: client.delete_queue("hello")) == 4
    await far(lambda: client.shutdown(2.5))
    assert view.asked == [
        ("start", ("users",), False),
        ("stop", ("users", "hello")),
        ("restart", (), True),
        ("scale", {"users": 3}),
        ("reload",),
        ("purge_queue", "hello"),
        ("delete_queue", "hello"),
        ("shutdown", 2.5),
    ]


async def test_streams_end_with_their_last_item(client: ControlClient, view: View) -> None:
    assert await far(lambda: list(client.events())) == [
        Event(1, 1.5, "users", "users-1", State.READY),
        Event(2, 2.5, "users", "users-1", State.STOPPED, "stopped"),
    ]
    query = LogQuery(("users", "a b&c"), tail=3)
    assert [line.text for line in await far(lambda: list(client.logs(query)))] == ["ein Ärger\n\x00"]
    assert view.asked == [("logs", query)]


async def test_a_disconnected_reader_ends_its_stream_in_the_stack(client: ControlClient, view: View) -> None:
    def read_one_and_leave() -> None:
        lines = client.logs(LogQuery(follow=True))
        next(lines)
        lines.close()  # type: ignore[attr-defined]  # a generator behind Iterator

    await far(read_one_and_leave)
    async with asyncio.timeout(60):
        await view.left.wait()


async def test_an_error_of_the_stack_is_raised_in_the_client_with_hint_and_exit_code(
    client: ControlClient, view: View
) -> None:
    view.error = UnknownServiceError("no service is called 'user'", hint="did you mean 'users'?")
    with pytest.raises(MsctlError) as caught:
        await far(client.snapshot)
    assert caught.value.message == "no service is called 'user'"
    assert caught.value.hint == "did you mean 'users'?"
    assert caught.value.exit_code == 4


async def test_an_unexpected_exception_is_an_error_and_not_a_traceback(
    client: ControlClient, view: View, caplog: pytest.LogCaptureFixture
) -> None:
    view.error = ZeroDivisionError("division by zero")
    with pytest.raises(MsctlError, match="ZeroDivisionError") as caught:
        await far(client.snapshot)
    assert caught.value.exit_code == 1
    assert "Traceback" in caplog.text


def test_without_a_stack_every_verb_raises_not_running(tmp_path: Path) -> None:
    client = ControlClient(StackPaths(tmp_path), "shop")
    with pytest.raises(NotRunningError, match="no stack is running for project 'shop'"):
        client.snapshot()


def test_a_stale_socket_is_not_a_running_stack(tmp_path: Path) -> None:
    import socket

    paths = StackPaths(tmp_path)
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(paths.socket))
        crashed.listen()
    with pytest.raises(NotRunningError):
        ControlClient(paths, "shop").snapshot()


def test_the_client_has_every_verb_of_the_view_with_the_same_arguments() -> None:
    verbs = [
        name for name, _ in inspect.getmembers(SystemView, inspect.isfunction) if not name.startswith("_")
    ]
    assert verbs
    for name in verbs:
        near = inspect.signature(getattr(SystemView, name)).parameters
        distant = inspect.signature(getattr(ControlClient, name)).parameters
        common = [str(p) for p in distant.values()][: len(near)]
        assert [str(p) for p in near.values()] == common, name
        assert all(p.default is not p.empty for p in list(distant.values())[len(near) :]), name


@as_root
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_server_refuses_a_connection_of_another_user(loop_factory: Callable[[], Any]) -> None:
    program = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.sendall(b"POST /v1/stop HTTP/1.0\\r\\nHost: msctl\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
print(client.makefile().read())
"""
    view = View()

    async def main(folder: Path) -> str:
        server = ControlServer(view, folder / "control.sock")
        await server.start()
        # Both keep others out; without them, the server itself has to.
        folder.chmod(0o755)
        (folder / "control.sock").chmod(0o666)
        mallory = other_user.run(program, str(folder / "control.sock"))
        output, errors = await asyncio.to_thread(mallory.communicate, timeout=30)
        await server.stop()
        return str(output + errors)

    with tempfile.TemporaryDirectory() as name, asyncio.Runner(loop_factory=loop_factory) as runner:
        answer = runner.run(main(Path(name)))
    assert answer.startswith("HTTP/1.0 403")
    assert view.asked == []


def test_the_client_without_a_free_descriptor_does_not_say_that_nothing_runs(tmp_path: Path) -> None:
    client = ControlClient(StackPaths(tmp_path), "shop")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(MsctlError, match="too many open files") as caught:
            client.snapshot()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "ulimit -n" in str(caught.value.hint)


def test_a_stack_without_a_free_descriptor_is_reported_with_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stack closes the connection, as libuv does when it cannot accept it."""
    paths = StackPaths(tmp_path)
    StackRecord("shop", None, os.getpid(), 1.0).write(paths)
    lock = StackLock.acquire(paths)
    assert lock is not None
    found = open_descriptors(os.getpid())
    assert found is not None
    assert 0 < found[0] <= found[1]
    monkeypatch.setattr("msctl.control.client.open_descriptors", lambda _: (1023, 1024))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(paths.socket))
        listening.listen()

        def close_at_once() -> None:
            listening.accept()[0].close()

        thread = threading.Thread(target=close_at_once)
        thread.start()
        with pytest.raises(UnreachableError, match="1023 of 1024"):
            ControlClient(paths, "shop").snapshot()
        thread.join()
    lock.close()

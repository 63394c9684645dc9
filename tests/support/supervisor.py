"""A supervisor over a project made in the test, and checks that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from msctl.clock import AsyncClock, SystemClock
from msctl.discovery.registry import Registry
from msctl.hosting.hosted_app import HostedFactory
from msctl.model.broker_spec import BrokerSpec
from msctl.model.events import Event
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import ServiceSnapshot, State
from msctl.supervisor.context import SupervisorContext
from msctl.supervisor.supervisor import Supervisor
from msctl.telemetry.logs.hub import LogHub
from tests.support.ports import reserved_port

AMQP = "amqp://guest:guest@127.0.0.1:5672/"
_reserved = ExitStack()


@dataclass
class Rig:
    """A supervisor and everything that it tells."""

    supervisor: Supervisor
    registry: Registry
    logs: LogHub
    events: list[Event] = field(default_factory=list)
    waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = field(default_factory=list)

    def heard(self, event: Event) -> None:
        self.events.append(event)
        self._look()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until an event or a log line makes this true; fails after a minute."""
        if condition():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((condition, future))
        await asyncio.wait_for(future, 60)

    async def until_state(self, service: str, state: State) -> None:
        await self.until(lambda: self.service(service).state is state)

    def service(self, name: str) -> ServiceSnapshot:
        return next(s for s in self.supervisor.snapshot() if s.name == name)

    def states(self, service: str) -> list[State]:
        """The states that its instances went through, repeats left out."""
        seen: list[State] = []
        for event in self.events:
            if event.service == service and (not seen or seen[-1] is not event.state):
                seen.append(event.state)
        return seen

    def text(self, service: str) -> str:
        return "\n".join(line.text for line in self.logs.tail([service]))

    def _look(self, _line: object = None) -> None:
        for entry in list(self.waiting):
            condition, future = entry
            if future.done() or condition():
                self.waiting.remove(entry)
                if not future.done():
                    future.set_result(None)


MakeRig = Callable[..., Rig]


@pytest.fixture
async def rig(nothing_is_left: None, tmp_path: Path) -> AsyncIterator[MakeRig]:
    """`rig(*services, gateway=…)` gives a Rig, which is shut down after the test."""
    made: list[Rig] = []

    def make(
        *services: ServiceSpec,
        root: Path | None = tmp_path,
        gateway: GatewaySpec | None = None,
        builtin: Mapping[str, HostedFactory] | None = None,
        clock: AsyncClock | None = None,
        serve_argv: Callable[[str, str], Sequence[str]] | None = None,
    ) -> Rig:
        clock = clock or SystemClock(asyncio.sleep)
        logs = LogHub(clock)
        registry = Registry()
        heard: list[Rig] = []
        supervisor = Supervisor(
            Project("test", root, "msctl.toml", services, gateway, BrokerSpec()),
            SupervisorContext(
                clock=clock,
                logs=logs,
                registry=registry,
                builtin=builtin or {},
                amqp_url=lambda: AMQP,
                on_event=lambda event: heard[0].heard(event),  # noqa: PLW0108 - it is not there yet
                serve_argv=serve_argv,
            ),
        )
        rig = Rig(supervisor, registry, logs)
        heard.append(rig)
        logs.listen(rig._look)
        made.append(rig)
        return rig

    yield make
    for one in made:
        await asyncio.wait_for(one.supervisor.shutdown(5), 60)
        assert {s.state for s in one.supervisor.snapshot()} <= {State.STOPPED}


@pytest.fixture
async def nothing_is_left() -> AsyncIterator[None]:
    """No task, process or listening socket of a test outlives it."""
    tasks = asyncio.all_tasks()
    others = _children()  # such as a RabbitMQ that other tests use, which starts helpers as it likes
    yield
    left = asyncio.all_tasks() - tasks
    assert not [t for t in left if t is not asyncio.current_task() and not t.done()]
    assert not [(child, *child.children(recursive=True)) for child in _children() - others]
    assert _listening() == []


def _children() -> set[psutil.Process]:
    """Return this process's children; psutil would read the files of every process of the machine."""
    lists = list(Path("/proc/self/task").glob("*/children"))
    if not lists:  # on macOS
        return set(psutil.Process().children())
    found = set()
    for children in lists:
        with suppress(OSError):  # its thread has ended; the others have its children
            for pid in children.read_text().split():
                with suppress(psutil.NoSuchProcess):
                    found.add(psutil.Process(int(pid)))
    return found


def _listening() -> list[object]:
    """Return the addresses on which this process listens; psutil would read all of the machine's."""
    found = []
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - a descriptor is a number
        with suppress(OSError):  # the one that lists the folder is closed
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as one:
                    if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        found.append(one.getsockname())
    return found


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Callable[[str, str], Path]]:
    """`write("shop/app.py", source)` puts a file below the project's root."""

    def put(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    yield put


def free_port() -> int:
    """A port for a service of this test, that no other process is given until this one ends."""
    return _reserved.enter_context(reserved_port())


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

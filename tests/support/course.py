"""The built-in course system on ports of its own, driven by the real command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.cli import PATIENCE, Msctl
from tests.support.ports import reserved_port

STARTED = ("hello", "users", "producer", "gateway")
"""What `msctl up` starts; the consumer waits for `msctl start`."""


@dataclass(frozen=True)
class Course:
    """The command line, and the ports on which the course's system will answer."""

    msctl: Msctl
    gateway: int
    users: int
    broker: int

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.gateway}{path}"


@pytest.fixture
def course(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    """No broker answers at its URL. Whatever the test does, no process may be left at its end."""
    with _course(tmp_path / "anywhere", tmp_path_factory.mktemp("run")) as course:
        yield course


@pytest.fixture(scope="session")
def _shared_course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    with _course(tmp_path_factory.mktemp("shared") / "anywhere", tmp_path_factory.mktemp("run")) as course:
        yield course


@pytest.fixture
def running(_shared_course: Course) -> Course:
    """The course's system, up, for tests that do no more than start and stop services."""
    msctl = _shared_course.msctl
    if msctl.run("status").returncode:
        msctl.ok("up", "-d")
    else:
        msctl.ok("start", *STARTED)
    assert msctl.states() == {**dict.fromkeys(STARTED, "ready"), "consumer": "stopped"}
    return _shared_course


@contextmanager
def _course(folder: Path, runtime: Path) -> Iterator[Course]:
    folder.mkdir()
    with ExitStack() as stack:
        gateway, users, broker = (stack.enter_context(reserved_port()) for _ in range(3))
        env = {
            "MSCTL_GATEWAY_PORT": str(gateway),
            "MSCTL_HELLO_PORT": str(gateway),
            "MSCTL_USERS_PORT": str(users),
            "MSCTL_BROKER_URL": f"amqp://guest:guest@127.0.0.1:{broker}/",
            "MSCTL_BROKER_MODE": "external",
            "MSCTL_DASHBOARD_PORT": "0",
        }
        msctl = Msctl(folder, runtime, env)
        yield Course(msctl, gateway, users, broker)
        msctl.run("down", "--timeout", "10s")
        # One that has been told to end may take a moment.
        _, left = psutil.wait_procs(processes_of(runtime), timeout=PATIENCE)
        for process in left:
            process.kill()
        assert not left, f"left running: {left}"


def processes_of(runtime: Path) -> list[psutil.Process]:
    """Every process that was started with this runtime folder in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MSCTL_RUNTIME_DIR") == str(runtime):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found

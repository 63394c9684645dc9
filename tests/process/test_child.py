"""Child processes on systems without Linux's features, and the watchdog."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from msctl.clock import SystemClock
from msctl.processes import child as child_module
from msctl.processes import watchdog
from msctl.processes.child import Child, Exit, SpawnError, describe_exit
from msctl.processes.output import Pace
from msctl.processes.process_table import MARK, ProcessTableReader
from msctl.processes.watchdog_client import WatchdogClient
from tests.support.supervisor import alive


class Ignored:
    """A sink that drops everything."""

    def raw(self, data: bytes) -> None: ...

    def line(self, text: str) -> None: ...

    def skipped(self, count: int) -> None: ...


def child(*argv: str) -> Child:
    return Child(
        argv,
        env={"PATH": os.environ["PATH"]},
        cwd=None,
        mark="test:x:1",
        stdout=Ignored(),
        stderr=Ignored(),
        pace=Pace(),
        clock=SystemClock(asyncio.sleep),
        process_tables=ProcessTableReader(),
    )


@pytest.fixture
def no_prefix() -> Iterator[None]:
    child_module.die_with_parent.cache_clear()
    yield
    child_module.die_with_parent.cache_clear()


async def test_an_exit_is_noticed_without_pidfds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    one = child("sh", "-c", "exit 3")
    assert await one.exited() == 3
    assert await one.stop(1.0) == Exit(3)


async def test_an_exit_is_noticed_without_pidfds_and_waitid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.delattr(os, "waitid")
    one = child("sh", "-c", "kill -TERM $$")
    assert await one.exited() == -signal.SIGTERM
    assert await one.stop(1.0) == Exit(-signal.SIGTERM)


async def test_without_setpriv_a_program_runs_without_a_prefix(
    no_prefix: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    one = child("sleep", "1000")
    assert await one.stop(5.0) == Exit(-signal.SIGTERM)


async def test_a_program_that_the_kernel_refuses_is_a_spawn_error(
    no_prefix: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SpawnError, match="cannot run sh: Argument list too long"):
        child("sh", "-c", "x" * 10_000_000)


async def test_stop_may_be_cancelled_and_called_again() -> None:
    one = child("sleep", "1000")
    first = asyncio.ensure_future(one.stop(600.0))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await one.stop(5.0) == Exit(-signal.SIGTERM)
    assert await one.stop(5.0) == Exit(-signal.SIGTERM)
    one.kill()  # nobody is there any more, and nobody else is hit


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "exit 0"), (-11, "killed by SIGSEGV"), (-64, "killed by SIGRTMAX"), (-99, "killed by signal 99")],
)
def test_an_exit_code_is_described(code: int, text: str) -> None:
    assert describe_exit(code) == text


async def test_a_hanging_watchdog_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msctl.processes.watchdog_client._CLOSE_S", 0.1)
    watchdog_client = WatchdogClient("token")
    watchdog_client.start()
    watchdog_client.add(2**22 + 1)
    assert watchdog_client.pid is not None
    pid = watchdog_client.pid
    os.kill(pid, signal.SIGSTOP)
    await watchdog_client.close()
    assert not alive(pid)
    await watchdog_client.close()


def test_the_watchdog_kills_only_by_session_and_mark() -> None:
    def sleeper(**env: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "1000"], env=env, start_new_session=True)

    recorded, marked, stranger = sleeper(), sleeper(**{MARK: "ours:x:1"}), sleeper(**{MARK: "theirs:x:1"})
    try:
        assert watchdog.kill_all({recorded.pid}, f"{MARK}=ours".encode())
        assert recorded.wait(10) == marked.wait(10) == -signal.SIGKILL
        assert not watchdog.kill_all({recorded.pid}, f"{MARK}=ours".encode())
        assert stranger.poll() is None
    finally:
        for one in (recorded, marked, stranger):
            one.kill()
            one.wait()


def test_without_proc_the_watchdog_kills_process_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "processes", list)
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as one:
        watchdog.kill_all({one.pid, 2**22 + 1}, b"none")
        assert one.wait(10) == -signal.SIGKILL


def test_the_watchdog_forgets_removed_children(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[set[int]] = []
    monkeypatch.setattr(watchdog, "kill_all", lambda children, mark: killed.append(children))
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(sys, "argv", ["watchdog.py", MARK, "token"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("+5\n+6\n-5\n-7\n.\n"))
    watchdog.main()
    assert killed == [{6}]

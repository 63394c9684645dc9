"""A killed stack leaves no process, and the next stack finds any that it did."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from msctl.processes import process_table
from msctl.processes.pid_file import Entry, Leftover, PidFile, kill_leftovers, leftovers, start_time
from tests.process.test_command_services import FORKS
from tests.support.course import Course
from tests.support.supervisor import alive

PROGRAM = Path(__file__).with_name("stack_to_crash.py")


@contextmanager
def stack(pid_file: Path, *scripts: str) -> Iterator[tuple[subprocess.Popen[str], list[int], int]]:
    """A running stack, the pids of its children and of what they forked, and its watchdog's."""
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), str(pid_file), *scripts],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        pids: list[int] = []
        try:
            for line in process.stdout:
                word, number = line.split()
                if word == "ready":
                    yield process, pids, int(number)
                    break
                pids.append(int(number))
        finally:
            process.kill()
            process.wait()
            kill_leftovers(pid_file)
            process_table.signal_all(pids, signal.SIGKILL)


def wait_gone(pids: list[int]) -> list[int]:
    """Those that are still there after a while."""
    processes = []
    for pid in pids:
        try:
            processes.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    _, left = psutil.wait_procs(processes, timeout=10)
    return [p.pid for p in left if alive(p.pid)]


SCRIPTS = [script.format(end="echo up; sleep 1000") for script in FORKS.values()]


def test_a_killed_stack_leaves_no_descendant(tmp_path: Path) -> None:
    with stack(tmp_path / "pid_file", *SCRIPTS) as (process, pids, watchdog):
        assert len(pids) == 2 * len(SCRIPTS)
        assert all(alive(pid) for pid in pids)
        process.kill()
        process.wait()
        assert wait_gone([*pids, watchdog]) == []


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv, which asks for PDEATHSIG, is not here")
def test_without_a_watchdog_children_die_and_descendants_are_found(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid_file"
    # One whose environment was wiped is not told from a stranger's once its session's first is gone.
    scripts = [script for script in SCRIPTS if "env -i" not in script]
    with stack(pid_file, *scripts) as (process, pids, watchdog):
        assert leftovers(pid_file) != []  # a running stack's children are in its pid_file
        os.kill(watchdog, signal.SIGKILL)
        process.kill()
        process.wait()
        children = pids[-len(scripts) :]
        forked = pids[: -len(scripts)]
        assert wait_gone(children) == []
        found = leftovers(pid_file)
        assert {pid for leftover in found for pid in leftover.pids} >= {p for p in forked if alive(p)}
        assert {leftover.instance for leftover in found} <= {f"s{n}-1" for n in range(len(scripts))}
        assert any("sleep 1000" in leftover.program for leftover in found)
        assert [entry.instance for entry in kill_leftovers(pid_file)] == [entry.instance for entry in found]
        assert wait_gone([pid for leftover in found for pid in leftover.pids]) == []
        assert leftovers(pid_file) == []
        assert not pid_file.exists()


@contextmanager
def sleeper(
    env: dict[str, str] | None = None, start_new_session: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"], env=env, start_new_session=start_new_session) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_pid_file_is_removed_with_its_last_entry(tmp_path: Path) -> None:
    path = tmp_path / "pid_file"
    pid_file = PidFile(path)
    me = os.getpid()
    pid_file.add(Entry(me, start_time(me), "a", "a-1", "x:a-1:1"))
    pid_file.add(Entry(me + 1, 0.0, "b", "b-1", "x:b-1:2"))
    assert [entry["pid"] for entry in json.loads(path.read_text())] == [me, me + 1]
    pid_file.remove("x:a-1:1")
    pid_file.remove("x:b-1:2")
    pid_file.remove("x:b-1:2")
    assert list(tmp_path.iterdir()) == []


def test_a_reused_process_id_is_never_taken_for_a_child(tmp_path: Path) -> None:
    path = tmp_path / "pid_file"
    with sleeper(start_new_session=True) as other:
        PidFile(path).add(Entry(other.pid, start_time(other.pid) - 100.0, "a", "a-1", "no such mark"))
        assert leftovers(path) == []
        PidFile(path).add(Entry(other.pid, start_time(other.pid), "a", "a-1", "no such mark"))
        assert leftovers(path) == [Leftover("a", "a-1", (other.pid,), "sleep 1000")]


@pytest.mark.parametrize("text", [None, "", "{", "[1]", '[{"pid": 1}]'])
def test_an_unreadable_pid_file_is_empty(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "pid_file"
    if text is not None:
        path.write_text(text)
    assert leftovers(path) == []


def test_a_mark_is_found_at_any_position_in_the_environment() -> None:
    for environment in ({process_table.MARK: "t:x:1"}, {"A": "1", process_table.MARK: "t:x:1", "Z": "2"}):
        with sleeper(environment) as child:
            assert process_table.read_table().marks.get("t:x:1") == {child.pid}
    with sleeper({"X" + process_table.MARK: "t:x:1"}):
        assert "t:x:1" not in process_table.read_table().marks


def test_a_zombie_is_not_in_the_table() -> None:
    child = subprocess.Popen(["true"], start_new_session=True)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.pid not in process_table.read_table().sessions
    child.wait()


def test_down_ends_what_a_killed_stack_left(course: Course) -> None:
    (course.msctl.folder / "msctl.toml").write_text(
        "[services.forks]\ncommand = 'setsid sleep 4321 & exec sleep 1000'\nshell = true\n"
        "[gateway]\nenabled = false\n"
    )
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT"):
        del course.msctl.env[name]
    course.msctl.ok("up", "-d")
    stack = psutil.Process(course.msctl.status()["pid"])
    children = stack.children(recursive=True)
    (watchdog,) = (one for one in children if "watchdog.py" in " ".join(one.cmdline()))
    (daemon,) = (one for one in children if one.cmdline() == ["sleep", "4321"])
    watchdog.kill()
    stack.kill()
    assert wait_gone([stack.pid]) == []
    assert alive(daemon.pid)
    done = course.msctl.run("down")
    assert done.returncode == 0
    assert f"pid {daemon.pid}" in done.stderr
    assert "forks-1" in done.stderr
    assert wait_gone([daemon.pid]) == []
    assert "forks-1" not in course.msctl.run("down").stderr

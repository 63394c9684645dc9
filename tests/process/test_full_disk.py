"""A stack whose runtime folder cannot be written to says the truth, and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from msctl.processes.pid_file import Entry, PidFile
from msctl.telemetry.runs.recorder import RunRecorder
from tests.support.cli import Msctl
from tests.support.clock import FakeClock
from tests.support.ports import reserved_port
from tests.support.supervisor import alive
from tests.support.waiting import eventually, until
from tests.unit.telemetry.test_runs import kept, recorded, stats

CONFIG = """
[services.a]
command = "sleep 1000"

[gateway]
port = {port}

[broker]
mode = "embedded"
url = "amqp://guest:guest@127.0.0.1:{broker}/"
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 1 MiB."""
    folder = Path(tempfile.mkdtemp())  # short: a Unix socket is in it
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "x", folder]).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


def fill(folder: Path) -> Callable[[], None]:
    """Use up the file system; returns what frees it."""
    path = folder / "filling"
    with path.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError:
            pass
    return path.unlink


def service(msctl: Msctl) -> dict[str, Any]:
    found: dict[str, Any] = next(s for s in msctl.status()["services"] if s["name"] == "a")
    return found


async def test_status_is_true_on_a_disk_without_room(tmp_path: Path, small_disk: Path) -> None:
    with reserved_port() as port, reserved_port() as broker:
        (tmp_path / "msctl.toml").write_text(CONFIG.format(port=port, broker=broker))
    msctl = Msctl(tmp_path, small_disk, {})
    msctl.ok("up", "-d")
    try:
        undo = fill(small_disk)
        former = service(msctl)["pid"]
        os.kill(former, signal.SIGKILL)
        await until(
            lambda: service(msctl)["pid"] not in (None, former) and service(msctl)["state"] == "ready"
        )
        assert alive(service(msctl)["pid"])
        msctl.ok("restart", "a")
        assert service(msctl)["state"] == "ready"
        msctl.ok("stop", "a")
        assert service(msctl)["state"] == "stopped"
        msctl.ok("start", "a")
        last = service(msctl)["pid"]
        assert "cannot write" in msctl.ok("logs", "msctl")
        msctl.ok("down")
        assert not alive(last)
        undo()
    finally:
        msctl.run("down")


def test_a_pid_file_that_cannot_be_written_is_said_once_and_written_again(tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "folder"
    pid_file = PidFile(folder / "children.json", said.append)
    for number in range(3):
        pid_file.add(Entry(0, 0.0, "a", "a-1", f"x:a-1:{number}"))
    assert len(said) == 1
    folder.mkdir()
    pid_file.remove("x:a-1:0")
    assert "x:a-1:2" in (folder / "children.json").read_text()


def test_a_run_is_recorded_once_the_disk_has_room_again(small_disk: Path) -> None:
    said: list[str] = []
    path = small_disk / "runs.sqlite"
    undo = fill(small_disk)
    recorder = RunRecorder(lambda: path, "run-1", "1.0", FakeClock(), said.append)
    recorder.offer({kept(1)[0].trace_id: kept(1)}, [stats()])
    eventually(lambda: said)
    undo()
    recorder.offer({kept(2)[0].trace_id: kept(2)}, [stats()])
    recorder.close(30)
    assert recorded(path, "run-1") == 2
    assert len(said) == 1
    assert "full" in said[0]

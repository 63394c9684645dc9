"""Programs that make themselves daemons, and orphans of a stack's children."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from msctl.processes import orphans
from msctl.processes.command_worker import foreground_hint
from tests.support.cli import Msctl
from tests.support.supervisor import alive, free_port
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="child subreapers are Linux's")

DAEMON = """
import os, pathlib, sys, time
def clear_environment():
    os.execve(sys.executable, [sys.executable, "-c", TAIL], {})
TAIL = "import os, time; open('daemon.pid', 'w').write(str(os.getpid())); time.sleep(1000)"
if os.fork() == 0:
    os.setsid()
    if FORKS == 2 and os.fork():
        os._exit(0)
    clear_environment()
while not pathlib.Path("daemon.pid").exists() or not pathlib.Path("daemon.pid").read_text():
    time.sleep(0.01)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:  # a short path: a Unix socket is in it
        yield Path(name)
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(Path(name, "daemon.pid").read_text()), signal.SIGKILL)


def stack(folder: Path, services: str) -> Msctl:
    (folder / "msctl.toml").write_text(
        f'{services}\n[gateway]\nport = {free_port()}\n[broker]\nmode = "embedded"\n'
        f'url = "amqp://guest:guest@127.0.0.1:{free_port()}/"\n'
    )
    return Msctl(folder, folder / "run", {})


@pytest.mark.parametrize("forks", [1, 2])
def test_a_daemon_without_the_mark_is_ended_and_its_service_says_how_to_stay(
    folder: Path, forks: int
) -> None:
    (folder / "daemon.py").write_text(DAEMON.replace("FORKS", str(forks)))
    msctl = stack(folder, f"[services.a]\ncommand = '{sys.executable} daemon.py'\nready_log = 'never'\n")
    done = msctl.run("up", "-d")
    assert done.returncode == 1
    assert "went to the background" in done.stderr
    assert not alive(int((folder / "daemon.pid").read_text()))


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not here")
def test_nginx_as_a_daemon_leaves_nothing_on_its_port(folder: Path) -> None:
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; server {{ listen 127.0.0.1:{port}; }} }}\n"
    )
    command = f"nginx -c {folder}/nginx.conf -e {folder}/error.log"
    msctl = stack(folder, f'[services.n]\ncommand = "{command}"\n')
    done = msctl.run("up", "-d")
    assert done.returncode == 1
    assert "daemon off" in done.stderr
    assert [c for c in psutil.net_connections() if c.laddr and c.laddr.port == port] == []


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_orphans_that_exit_are_reaped(folder: Path) -> None:
    script = "while :; do (sleep 0.01 & exec sleep 0); n=$((n+1)); echo $n > rounds; sleep 0.02; done"
    msctl = stack(folder, f'[services.a]\ncommand = ["sh", "-c", "{script}"]\n')
    msctl.ok("up", "-d")
    me = psutil.Process(msctl.status()["pid"])

    def zombies() -> list[psutil.Process]:
        return [p for p in me.children() if _is_zombie(p)]

    former: list[psutil.Process] = []

    def seen() -> bool:
        former.extend(zombies())
        return bool(former)

    await until(seen)
    await until(lambda: former[0] not in me.children())
    msctl.ok("down")


def test_a_session_of_its_own_is_not_reaped_before_ten_minutes() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {}, setsid=True)
    since: dict[int, float] = {}
    while (found := orphans.stat(pid)) is not None and found.state != "Z":
        pass
    orphans.reap(since, 0.0)
    orphans.reap(since, orphans.UNCLAIMED_S - 1)
    assert os.waitpid(pid, os.WNOHANG)[0] == pid


def test_a_known_daemon_has_its_own_advice() -> None:
    assert "daemon off" in foreground_hint(["/usr/sbin/nginx", "-c", "x"])
    assert "--daemonize no" in foreground_hint(["redis-server"])
    assert "--foreground" in foreground_hint(["other"])

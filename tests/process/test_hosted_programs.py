"""A hosted application may do what programs do; the stack's process stays the stack's."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.cli import Msctl
from tests.support.http import request
from tests.support.ports import reserved_port

SOURCE = """
import asyncio, atexit, multiprocessing, os, signal, threading, warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

warnings.simplefilter("ignore")  # from Python 3.12 on about a fork beside threads
signal.signal(signal.SIGTERM, lambda *_: None)
signal.signal(signal.SIGUSR1, lambda *_: Path("usr1").touch())
threading.Thread(target=print, args=("from a thread",)).start()
def work():
    print("from a worker")
    return os.getpid()
pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
atexit.register(Path("ended").touch)


async def app(scope, receive, send):
    loop = asyncio.get_running_loop()
    if scope["type"] == "lifespan":
        await receive()
        loop.add_signal_handler(signal.SIGINT, print)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await loop.run_in_executor(None, print, "from an executor")
    worker = await loop.run_in_executor(pool, work)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(worker).encode()})
"""


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Msctl, str]]:
    (tmp_path / "main.py").write_text(SOURCE)
    (tmp_path / "msctl.toml").write_text('[services.api]\napp = "main:app"\n')
    with reserved_port() as gateway, reserved_port() as broker:
        env = {
            "MSCTL_GATEWAY_PORT": str(gateway),
            "MSCTL_BROKER_URL": f"amqp://guest:guest@127.0.0.1:{broker}/",
        }
        yield Msctl(tmp_path, tmp_path_factory.mktemp("run"), env), f"http://127.0.0.1:{gateway}/"


def test_down_ends_the_processes_that_an_application_forked(project: tuple[Msctl, str]) -> None:
    msctl, url = project
    msctl.ok("up", "-d")
    worker = int(request(url).body)
    assert psutil.pid_exists(worker)
    msctl.ok("down")
    assert not psutil.pid_exists(worker)
    assert (msctl.folder / "ended").exists()  # what it registered with atexit has run


def test_a_forked_process_keeps_neither_lock_nor_ports_of_a_killed_stack(
    project: tuple[Msctl, str],
) -> None:
    msctl, url = project
    msctl.ok("up", "-d")
    workers = [int(request(url).body)]
    stack = psutil.Process(msctl.status()["pid"])
    stack.kill()
    psutil.wait_procs([stack], 30)
    try:
        assert psutil.pid_exists(workers[0])
        msctl.ok("up", "-d")
        workers.append(int(request(url).body))
        assert workers[0] != workers[1]
        msctl.ok("down")
    finally:
        for worker in workers:
            if psutil.pid_exists(worker):
                os.kill(worker, signal.SIGKILL)


def test_a_forked_process_ends_by_a_signal(project: tuple[Msctl, str]) -> None:
    msctl, url = project
    msctl.ok("up", "-d")
    worker = psutil.Process(int(request(url).body))
    worker.terminate()
    assert psutil.wait_procs([worker], 30)[1] == []
    assert "forks.py" not in msctl.ok("logs", "api")
    msctl.ok("down")


def test_the_signals_that_end_a_stack_stay_its_own(project: tuple[Msctl, str]) -> None:
    msctl, url = project
    with msctl.process("up") as up:
        up.line("stderr", "gateway")
        request(url)
        log = msctl.ok("logs", "api")
        for number, place in (("SIGTERM", "main.py:7"), ("SIGINT", "main.py:21")):
            assert f"the handler of {number} at {place} is not installed" in log
        up.signal(signal.SIGINT)
        assert up.wait() == 0


def test_what_threads_and_forks_of_a_service_print_is_in_its_log(project: tuple[Msctl, str]) -> None:
    msctl, url = project
    msctl.ok("up", "-d")
    request(url)
    log = msctl.ok("logs", "api")
    msctl.ok("down")
    assert [text for text in ("from a thread", "from an executor", "from a worker") if text not in log] == []

"""Programs that we did not write, brought up, used, broken and brought down."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
import time
from functools import partial

import aiohttp
import psutil
import pytest

from tests.strangers.conftest import CACHE, NAMES, Strangers
from tests.support.cli import PATIENCE, Msctl
from tests.support.http import request
from tests.support.waiting import eventually


def left(strangers: Strangers) -> set[int]:
    """The processes that still run of this stack: all have its runtime folder in their environment."""
    runtime = str(strangers.msctl.runtime)
    found = set()
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("MSCTL_RUNTIME_DIR") == runtime
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
        except psutil.Error:
            continue
    return found


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def echoed(url: str, text: str) -> str:
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as chat:
        await chat.send_str(text)
        return str(await chat.receive_str(timeout=30))


def logged(strangers: Strangers, service: str, text: str) -> bool:
    return text in strangers.msctl.ok("logs", service)


def replaced(strangers: Strangers, service: str, pid: int) -> bool:
    """Whether the service is ready without the process `pid`."""
    return strangers.msctl.states()[service] == "ready" and pid not in strangers.pids()[service]


def test_they_run_as_by_hand_and_see_each_other(strangers: Strangers) -> None:
    strangers.msctl.ok("up", "-d")
    assert {strangers.msctl.states()[name] for name in NAMES} == {"ready"}

    answers = [json.loads(request(strangers.url("/web")).body) for _ in range(20)]
    assert {answer["pid"] for answer in answers} == set(strangers.pids()["api"])
    assert b"<h1>shop</h1>" in request(strangers.url("/", "site")).body
    assert request(strangers.url("/", "nginx")).body == b"nginx\n"
    assert asyncio.run(echoed(strangers.url("/chat"), "hello")) == "echo hello"

    call = "import tasks; tasks.add.delay(20, 22)"
    strangers.msctl.ok("run", "worker", "--", str(CACHE / "venv" / "bin" / "python"), "-c", call)
    eventually(lambda: logged(strangers, "worker", "s: 42"))
    strangers.msctl.ok("send", '"tea"', "--queue", "orders", "--content-type", "application/json")
    eventually(lambda: logged(strangers, "stream", "order tea"))

    strangers.msctl.ok("down")
    assert left(strangers) == set()
    assert not any(listening(port) for name, port in strangers.ports.items() if name != "broker")


def test_each_comes_back_after_a_kill_and_nothing_outlives_the_stack(strangers: Strangers) -> None:
    strangers.msctl.ok("up", "-d")
    for name, pids in strangers.pids().items():
        os.kill(pids[0], signal.SIGKILL)
        eventually(partial(replaced, strangers, name, pids[0]))
    assert request(strangers.url("/web")).status == 200

    os.kill(strangers.msctl.status()["pid"], signal.SIGKILL)
    eventually(lambda: not left(strangers))
    eventually(lambda: not any(listening(port) for port in strangers.ports.values()))
    strangers.msctl.ok("up", "-d")
    assert request(strangers.url("/web")).status == 200


@pytest.mark.parametrize("seed", range(5))
def test_ctrl_c_at_any_moment_leaves_nothing(strangers: Strangers, seed: int) -> None:
    interrupt(strangers, random.Random(seed).uniform(0.0, 3.0))


@pytest.mark.long
def test_two_hundred_times_ctrl_c_leave_nothing(strangers: Strangers) -> None:
    moments = random.Random(200)
    for _ in range(200):
        interrupt(strangers, moments.uniform(0.0, 4.0))


class Begun(Msctl):
    """Says on standard error that msctl begins."""

    def command(self, *args: str) -> list[str]:
        start = "import os; from msctl import __main__; os.write(2, b'begun\\n'); __main__.main()"
        return [sys.executable, "-c", start, *args]


def interrupt(strangers: Strangers, after: float) -> None:
    """Ctrl-C so long after msctl began: until Python comes to it, the signal may be lost."""
    with Begun(strangers.msctl.folder, strangers.msctl.runtime, strangers.msctl.env).process("up") as up:
        up.line("stderr", "begun")
        time.sleep(after)
        up.signal()
        printed = b"".join(up.child.communicate(timeout=PATIENCE))
        code = up.child.returncode
    # Until msctl's first step, the signal is Python's own, as for any program.
    early = code == -signal.SIGINT or b"KeyboardInterrupt" in printed
    assert code in (0, 130) or (early and b"msctl/cli" not in printed), (code, after, printed)
    assert left(strangers) == set(), after
    assert not any(listening(port) for port in strangers.ports.values()), after
    assert strangers.msctl.run("status").returncode == 3

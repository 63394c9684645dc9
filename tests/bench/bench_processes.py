"""Other people's programs under msctl, against the same without it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from tests.bench.result import Result, in_turn, seconds
from tests.strangers.conftest import CACHE
from tests.support.cli import Msctl
from tests.support.ports import reserved_port

FLOOD = "for n in range(200000): print('x' * 10)"
API = Path(__file__).parents[1] / "strangers" / "project" / "api.py"
DEBUG_LINES = "50"
MANY = 200
QUIET = (
    '[gateway]\nenabled = false\n[dashboard]\nenabled = false\n[broker]\nurl = "amqp://127.0.0.1:{broker}/"\n'
)


def results() -> Iterator[Result]:
    with tempfile.TemporaryDirectory(prefix="msctl-") as base, ExitStack() as stack:
        api, broker = (stack.enter_context(reserved_port()) for _ in range(2))
        quiet = QUIET.format(broker=broker)
        yield _flood(_project(Path(base) / "flood", quiet))
        yield _chatty(_project(Path(base) / "chatty", quiet), api)
        yield from _many(_project(Path(base) / "many", quiet))


def _project(folder: Path, quiet: str) -> Msctl:
    folder.mkdir()
    (folder / "quiet.toml").write_text(quiet)
    msctl = Msctl(folder, folder / "run", {})
    msctl.env.pop("PYTHONDONTWRITEBYTECODE", None)
    msctl.env.pop("PYTHONWARNINGS", None)
    return msctl


def _configure(msctl: Msctl, services: str) -> None:
    quiet = (msctl.folder / "quiet.toml").read_text()
    (msctl.folder / "msctl.toml").write_text(services + quiet)


def _flood(msctl: Msctl) -> Result:
    """Seconds until a program that prints 200,000 short lines has ended."""
    (msctl.folder / "flood.py").write_text(FLOOD)
    (msctl.folder / "Procfile").write_text("flood: python3 -u flood.py\n")
    _configure(msctl, '[services.flood]\ncommand = "python3 -u flood.py"\noneshot = true\n')

    def ours() -> float:
        with msctl.process("up", "flood") as up:
            log = up.child.stdout
            assert log is not None
            began = time.perf_counter()
            running = False
            while True:
                states = msctl.run("status", "--json").stdout
                running = running or '"running"' in states
                if '"exited"' in states:
                    break
            took = time.perf_counter() - began
            up.signal()
            up.wait()
        return took

    def theirs() -> float:
        command = [str(Path(sys.executable).with_name("honcho")), "start"]
        return seconds(
            lambda: subprocess.run(command, cwd=msctl.folder, env=msctl.env, stdout=subprocess.DEVNULL)
        )

    return Result("200,000 lines until the end: msctl / honcho", *in_turn(ours, theirs), "s", at_most=1.25)


def _chatty(msctl: Msctl, port: int) -> Result:
    """Requests a second of a FastAPI service that logs 50 lines for each."""
    (msctl.folder / "api.py").write_text(API.read_text())
    command = f"{CACHE / 'venv' / 'bin' / 'uvicorn'} api:app --host 127.0.0.1 --port {port} --log-level debug"
    _configure(
        msctl,
        f'[services.api]\ncommand = "{command}"\nport = {port}\nhealth = "/healthz"\n'
        f'env = {{ DEBUG_LINES = "{DEBUG_LINES}" }}\n',
    )

    def ours() -> float:
        msctl.ok("up", "-d")
        try:
            return _load(port)
        finally:
            msctl.ok("down")

    def theirs() -> float:
        with (msctl.folder / "by-hand.log").open("wb") as log:
            server = subprocess.Popen(
                command.split(),
                cwd=msctl.folder,
                env={**msctl.env, "DEBUG_LINES": DEBUG_LINES},
                stdout=log,
                stderr=log,
            )
            try:
                _wait_listening(port)
                return _load(port)
            finally:
                server.terminate()
                server.wait()

    return Result(
        "chatty FastAPI: under msctl / by hand", *in_turn(ours, theirs, rounds=3), "1/s", at_least=0.9
    )


def _many(msctl: Msctl) -> Iterator[Result]:
    """Two hundred services: how long they take to come up, and what they cost when nothing happens."""
    (msctl.folder / "sleep.sh").write_text("exec sleep 10000\n")
    services = "".join(f'[services.s{n}]\ncommand = "sh sleep.sh"\n' for n in range(MANY))
    _configure(msctl, services)

    def ours() -> float:
        return seconds(lambda: msctl.ok("up", "-d"))

    try:
        yield Result(f"{MANY} services up", ours(), 1.0, "s", at_most=6.0)
        process = psutil.Process(msctl.status()["pid"])
        before = process.cpu_times()
        time.sleep(10)
        after = process.cpu_times()
        used = (after.user + after.system - before.user - before.system) / 10
        yield Result(f"{MANY} idle services: share of a core", used, 1.0, "core", at_most=0.01)
        status = in_turn(lambda: seconds(lambda: msctl.ok("status")), lambda: _supervisorctl(msctl.folder))
        yield Result("status / supervisorctl status", *status, "s", at_most=0.7)
    finally:
        msctl.run("down")


def _supervisorctl(folder: Path) -> float:
    with _supervisord(folder) as (program, configuration):
        return seconds(
            lambda: subprocess.run([program, "-c", configuration, "status"], stdout=subprocess.DEVNULL)
        )


@contextmanager
def _supervisord(folder: Path) -> Iterator[tuple[str, str]]:
    programs = CACHE / "venv" / "bin"
    configuration = folder / "supervisord.conf"
    configuration.write_text(
        "[unix_http_server]\nfile = sock\n[supervisord]\nnodaemon = true\nuser = root\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
        "[supervisorctl]\nserverurl = unix://sock\n"
        + "".join(f"[program:s{n}]\ncommand = sleep 10000\n" for n in range(MANY))
    )
    daemon = subprocess.Popen(
        [programs / "supervisord", "-c", configuration.name],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (folder / "sock").exists():
            time.sleep(0.05)
        time.sleep(2)
        yield str(programs / "supervisorctl"), str(configuration)
    finally:
        daemon.terminate()
        daemon.wait()


def _load(port: int) -> float:
    done = subprocess.run(
        ["wrk", "-t1", "-c8", "-d3s", f"http://127.0.0.1:{port}/api/items"],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert found is not None
    return float(found.group(1))


def _wait_listening(port: int) -> None:
    import socket

    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)

"""The real command line, with a runtime folder that belongs to one test: in its own processes, or in ours.

A process for every `status` and `down` would be a sixth of the whole run, all of it imports of one set of
modules. So verbs that start no child and wait for no signal run in the tests' process, on real descriptors
and the real sockets of a stack. tests/process/test_programs.py compares them with processes of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any
from unittest import mock

from msctl.cli.app import main

SOURCE = Path(__file__).parents[2] / "src"
PATIENCE = 180.0
"""Seconds after which a command that has not ended fails its test; no test waits for it to pass."""
QUICK = {
    "config", "doctor", "down", "export", "graph", "init", "logs", "ls", "queues", "reload", "restart",
    "route", "routes", "runs", "scale", "send", "start", "status", "stop", "traces", "wait",
}  # fmt: skip
"""Verbs that start no child and wait for no signal."""
OF_THE_INTERPRETER = ("LANG", "LC_ALL", "PYTHONUTF8", "PYTHONIOENCODING", "HOME", "PATH", "TZ")
"""Variables that a process reads when it starts, or that tell it who runs it."""


class Msctl:
    """Runs `msctl` in `folder` with only the MSCTL_* variables of `env`."""

    def __init__(self, folder: Path, runtime: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.runtime = runtime
        clean = {k: v for k, v in os.environ.items() if not k.startswith("MSCTL_") and k != "AMQP_URL"}
        self.env = {
            **clean,
            "MSCTL_RUNTIME_DIR": str(runtime),
            "MSCTL_STATE_DIR": str(runtime / "state"),
            "PYTHONPATH": str(SOURCE),
            "PYTHONWARNINGS": "error",
            "COLUMNS": "200",
            # Where a test does not look at the dashboard, it must not meet another's.
            "MSCTL_DASHBOARD_PORT": "0",
            "MSCTL_DASHBOARD_OTLP_PORT": "0",
            **env,
        }

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "msctl", *args]

    def run(
        self, *args: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run to its end; output is decoded with replacement, so binary never fails a test itself."""
        if env is None and self._can_run_here(args):
            return run_here(args, self.folder, self.env, stdin)
        return self.run_apart(*args, stdin=stdin, env=env)

    def _can_run_here(self, args: Sequence[str]) -> bool:
        """Whether it is the same in this process; not on another thread, nor while an event loop runs."""
        return (
            args[0] in QUICK
            and type(self).command is Msctl.command
            and not any(os.environ.get(name) != self.env.get(name) for name in OF_THE_INTERPRETER)
            and threading.current_thread() is threading.main_thread()
            and asyncio._get_running_loop() is None
        )

    def run_apart(
        self, *args: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run in a process of its own."""
        done = subprocess.run(
            self.command(*args),
            cwd=self.folder,
            env={**self.env, **(env or {})},
            input=stdin if stdin is not None else b"",
            capture_output=True,
            timeout=PATIENCE,
        )
        return subprocess.CompletedProcess(
            done.args,
            done.returncode,
            done.stdout.decode(errors="replace"),
            done.stderr.decode(errors="replace"),
        )

    def ok(self, *args: str, stdin: bytes | None = None) -> str:
        """Run, expect exit code 0, and return standard output."""
        done = self.run(*args, stdin=stdin)
        assert done.returncode == 0, (
            f"msctl {' '.join(args)} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.ok("status", "--json"))["data"]
        return document

    def states(self) -> dict[str, str]:
        return {service["name"]: service["state"] for service in self.status()["services"]}

    @contextmanager
    def process(self, *args: str) -> Iterator[Process]:
        """The command, running; killed at the end if it still does."""
        child = subprocess.Popen(
            self.command(*args),
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        process = Process(child)
        try:
            yield process
        finally:
            if child.poll() is None:
                child.kill()
            child.communicate()


class InProcess(Msctl):
    """Runs every verb in this process."""

    def run(
        self, *args: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return run_here(args, self.folder, {**self.env, **(env or {})}, stdin)


def run_here(
    args: Sequence[str], folder: Path, env: Mapping[str, str], stdin: bytes | None
) -> subprocess.CompletedProcess[str]:
    """Run a command line in this process.

    Descriptors 0 to 2, the environment and the current folder are the command's while it runs.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(stdin or b"")
        files[0].seek(0)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, file in enumerate(files):
            stack.callback(os.close, saved := os.dup(number))
            stack.callback(os.dup2, saved, number)
            os.dup2(file.fileno(), number)
        streams = [os.fdopen(n, "w" if n else "r", closefd=False) for n in range(3)]
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            stack.enter_context(stream)
            stack.enter_context(mock.patch.object(sys, name, stream))
        stack.enter_context(mock.patch.dict(os.environ, env, clear=True))
        stack.enter_context(contextlib.chdir(folder))
        try:
            code = main(args)
        except KeyboardInterrupt:
            code = 130
        streams[1].flush()
        streams[2].flush()
        out, err = (_read(file) for file in files[1:])
    return subprocess.CompletedProcess(args, code, out, err)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


class Process:
    """A command that runs; both of its outputs can be read line by line."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child

    @property
    def pid(self) -> int:
        return self.child.pid

    def line(self, stream: str, containing: str) -> str:
        """Read until a line contains this; fails the test if the output ends first."""
        pipe = self.child.stdout if stream == "stdout" else self.child.stderr
        assert pipe is not None
        seen = []
        while line := pipe.readline().decode(errors="replace"):
            seen.append(line)
            if containing in line:
                return line
        raise AssertionError(f"no line with {containing!r} in:\n{''.join(seen)}")

    def signal(self, number: signal.Signals = signal.SIGINT) -> None:
        self.child.send_signal(number)

    def wait(self) -> int:
        self.child.communicate(timeout=PATIENCE)
        return self.child.returncode

"""`up -d`: the stack in a process of its own, and the parent that waits until it is ready.

The child is forked rather than started anew, which saves an interpreter's start. It tells its
parent over a pipe how far it is; all else the parent asks over the control socket, like any verb.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
import traceback

import typer

from msctl.cli.output.render import print_failures, print_started, print_trust
from msctl.cli.session import Settings
from msctl.control.client import ControlClient, RemoteError
from msctl.control.paths import StackLock, StackPaths, is_locked
from msctl.errors import ExitCode, MsctlError, TimedOutError
from msctl.model.project import Project
from msctl.model.snapshots import LogLine, Snapshot
from msctl.telemetry.logs.logfile import LogFile

OPEN, UP, FAILED = b"open", b"up", b"failed"


def start_detached(
    settings: Settings,
    project: Project,
    paths: StackPaths,
    names: list[str],
    lock: StackLock,
    *,
    wait: bool,
    watch: bool,
    timeout: float | None,
) -> None:
    """Start the stack behind us and return once it is ready, or at once where `wait` is False.

    Raises what kept it from coming up, and TimedOutError after `timeout` seconds; nothing is left
    running then.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(settings, project, paths, names, writing, watch=watch)
    os.close(writing)
    lock.close()
    try:
        _await(reading, UP if wait else OPEN, timeout)
        if wait:
            _report(ControlClient(paths, project.name), project, paths, pid)
        else:
            sys.stdout.write(f"starting the stack of the project {project.name!r} (pid {pid})\n")
    except TimedOutError as error:
        client = ControlClient(paths, project.name)
        with contextlib.suppress(MsctlError):
            _print_unready(client)
        _end(paths, pid)
        raise TimedOutError(
            f"the project {project.name!r} was not ready after {timeout:g} s", hint=error.hint
        ) from error
    except BaseException:
        _end(paths, pid)
        raise
    finally:
        os.close(reading)


def _report(client: ControlClient, project: Project, paths: StackPaths, pid: int) -> None:
    """Show what runs where; where something does not, say why and end it all."""
    snapshot = client.snapshot()
    if print_failures(snapshot, client):
        sys.stderr.write("nothing is left running\n")
        _end(paths, pid)
        raise typer.Exit(int(ExitCode.FAILED))
    print_started(snapshot)
    print_trust(project, snapshot)


def _print_unready(client: ControlClient) -> None:
    print_failures(client.snapshot(), client)


def _await(reading: int, stage: bytes, timeout: float | None) -> None:
    """Read what the child says until it has reached `stage`."""
    deadline = None if timeout is None else time.monotonic() + timeout
    said = b""
    while stage not in said.split(b"\n"):
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([reading], [], [], left)[0]:
            raise TimedOutError("timed out", hint="nothing is left running; see why above")
        chunk = os.read(reading, 65536)
        if not chunk:
            raise _failure(said)
        said += chunk


def _failure(said: bytes) -> MsctlError:
    for line in said.split(b"\n"):
        if line.startswith(FAILED):
            document = json.loads(line[len(FAILED) :])
            return RemoteError(
                document["message"], hint=document["hint"], exit_code=ExitCode(document["exit_code"])
            )
    return MsctlError("the stack ended while it started", hint="start it in the foreground: msctl up")


def _end(paths: StackPaths, pid: int) -> None:
    """Stop the child and wait for it, so that nothing is left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    while is_locked(paths):
        time.sleep(0.01)


class _Audience:
    """What the child tells its parent and its log file."""

    def __init__(self, writing: int, paths: StackPaths) -> None:
        self._writing = writing
        self._file = LogFile(paths.log)

    def line(self, line: LogLine) -> None:
        self._file.write(line)

    def open(self) -> None:
        self.say(OPEN)

    def up(self, _snapshot: Snapshot) -> bool:
        self.say(UP)
        return True

    def say(self, stage: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writing, stage + b"\n")


def _child(
    settings: Settings,
    project: Project,
    paths: StackPaths,
    names: list[str],
    writing: int,
    *,
    watch: bool,
) -> None:
    """Become the stack; never returns."""
    code = int(ExitCode.FAILED)
    try:
        os.setsid()
        _redirect(paths)
        audience = _Audience(writing, paths)
        try:
            from msctl.cli.launch import run_stack

            run_stack(settings, project, paths, names, audience, watch=watch)
            code = int(ExitCode.OK)
        except MsctlError as error:
            document = {"message": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}
            audience.say(FAILED + json.dumps(document).encode())
            code = int(error.exit_code)
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # noqa: BLE001 - a fork must never return into its parent's code
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def _redirect(paths: StackPaths) -> None:
    """Standard input from nowhere, output to the stack's log file."""
    log = os.open(paths.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(null)

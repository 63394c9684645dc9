"""`up -d`: the stack in a process of its own, and the parent that waits until it is ready.

The child is forked, which saves starting another interpreter. It reports over a pipe: `open` when its
control socket answers, `up` with the failed services when every service has started or failed, `failed`
with an error. Everything else the parent asks over the control socket, as any verb does: a service that
failed may be starting again by then, because another `up` asked for it. The child inherits the lock, so a
stack holds it from before the fork to its end, and the listening control socket.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from msctl.cli.launch.claim import Claim
from msctl.cli.launch.started import started
from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.outcome import failed_services, failure_lines
from msctl.cli.output.result import Result
from msctl.cli.output.show_waiting import showing_waiting
from msctl.cli.output.terminal import colours
from msctl.control.client import ControlClient, RemoteError
from msctl.control.paths import StackPaths, is_locked
from msctl.errors import ExitCode, MsctlError, TimedOutError
from msctl.garbage import collections_paused
from msctl.model.events import LogLine
from msctl.model.project import Project
from msctl.model.snapshots import Snapshot, State
from msctl.runtime.exit import exit_soon

LAST_LINES = 10
OPEN, UP, FAILED = b"open", b"up", b"failed"
_POLL_S = 0.01
_Failures = dict[str, tuple[str, str]]
"""State and reason of each service that failed, by its name."""


def start_detached(
    options: GlobalOptions,
    project: Project,
    claim: Claim,
    names: Sequence[str],
    *,
    wait: bool,
    watch: bool,
    timeout: float | None,
) -> Result:
    """Start the stack in the background; return when it is ready, or at once if `wait` is False.

    If a service fails, or after `timeout` seconds (TimedOutError), the stack is stopped again. Raises
    the MsctlError that keeps it from starting.
    """
    paths = claim.paths
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _run_child(options, project, claim, names, writing, watch=watch)
    os.close(writing)
    claim.close()
    client = ControlClient(paths, project.name)
    try:
        with showing_waiting(client):
            report = _wait_for(reading, UP if wait else OPEN, timeout, pid, paths.log)
        if wait:
            return _result(client, project, paths, pid, json.loads(report))
        return Result("up", pid, lambda: [f"starting project {project.name!r} (pid {pid})"])
    except TimedOutError as error:
        with contextlib.suppress(MsctlError):
            failed = failed_services(client.snapshot())
            sys.stderr.writelines(f"{line}\n" for line in failure_lines(failed, client))
        _stop_child(paths, pid)
        raise TimedOutError(
            f"project {project.name!r} was not ready after {timeout:g} s", hint=error.hint
        ) from error
    except BaseException:
        _stop_child(paths, pid)
        raise
    finally:
        os.close(reading)


def _result(
    client: ControlClient, project: Project, paths: StackPaths, pid: int, failures: _Failures
) -> Result:
    """Report where everything is reached; or why a service failed, after stopping the stack."""
    snapshot = client.snapshot()
    failed = [
        replace(one, state=State(failures[one.name][0]), reason=failures[one.name][1])
        for one in snapshot.services
        if one.name in failures
    ]
    if not failed:
        return Result("up", snapshot, lambda: started(project, paths, snapshot, coloured=colours(sys.stdout)))
    problems = (*failure_lines(failed, client), "the stack was stopped")
    _stop_child(paths, pid)
    return Result("up", snapshot, problems=problems, exit_code=ExitCode.FAILED)


def _wait_for(reading: int, stage: bytes, timeout: float | None, pid: int, log: Path) -> bytes:
    """Read the reports of the child `pid` until `stage`, and return what that one says. Raises TimedOutError,
    or the child's error; if it reports none, what `log` ends with.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    reports = b""
    while True:
        for line in reports.split(b"\n")[:-1]:
            if line.startswith(stage):
                return line.removeprefix(stage)
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([reading], [], [], left)[0]:
            raise TimedOutError("timed out", hint="the stack was stopped; the reasons are above")
        chunk = os.read(reading, 65536)
        if not chunk:
            raise _failure(reports, pid, log)
        reports += chunk


def _failure(reports: bytes, pid: int, log: Path) -> MsctlError:
    for line in reports.split(b"\n"):
        if line.startswith(FAILED):
            document = json.loads(line[len(FAILED) :])
            return RemoteError(
                document["message"], hint=document["hint"], exit_code=ExitCode(document["exit_code"])
            )
    from msctl.processes.child import describe_exit  # takes long

    end = describe_exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return MsctlError(
        f"the stack ended while it started: {end}{_last_lines(log)}",
        hint="start it in the foreground: msctl up",
    )


def _last_lines(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    except OSError:  # its folder goes with the stack
        return ""
    return "".join(f"\n  {line}" for line in lines)


def _stop_child(paths: StackPaths, pid: int) -> None:
    """Stop the child and wait until it and its lock are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    while is_locked(paths):
        time.sleep(_POLL_S)


class _ParentPipe:
    """Reports to the parent over a pipe."""

    def __init__(self, writing: int) -> None:
        self._writing = writing

    def line(self, line: LogLine) -> None:
        """Nothing to do: the lines are in the files of the run."""

    def open(self) -> None:
        self.report(OPEN)

    async def watch(self, snapshot: Callable[[], Awaitable[Snapshot]]) -> None:
        """Nothing to do: the parent asks over the control socket."""

    def up(self, snapshot: Snapshot) -> bool:
        failures: _Failures = {one.name: (one.state.value, one.reason) for one in failed_services(snapshot)}
        self.report(UP, failures)
        return True

    def report(self, stage: bytes, says: object = None) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writing, stage + json.dumps(says).encode() + b"\n")


def _run_child(
    options: GlobalOptions,
    project: Project,
    claim: Claim,
    names: Sequence[str],
    writing: int,
    *,
    watch: bool,
) -> None:
    """Become the stack. Never returns."""
    code = int(ExitCode.FAILED)
    try:
        os.setsid()
        _redirect(claim.paths)
        claim.announce(project)
        output = _ParentPipe(writing)
        try:
            with collections_paused():
                from msctl.cli.launch.stack_runner import run_stack

            run_stack(options, project, claim, names, output, watch=watch)
            code = int(ExitCode.OK)
        except MsctlError as error:
            document = {"message": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}
            output.report(FAILED, document)
            code = int(error.exit_code)
    except KeyboardInterrupt:
        code = int(ExitCode.INTERRUPTED)
    except BaseException:  # noqa: BLE001 - a fork must never return into its parent's code
        traceback.print_exc()
    finally:
        exit_soon(code)
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()  # what hosted applications registered, as at the end of any program
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def _redirect(paths: StackPaths) -> None:
    """Read standard input from /dev/null, and write output to the stack's log file."""
    log = os.open(paths.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(null)

"""`up` where the project's stack already exists: apply edits of the project, then start what is missing.

A stack that starts answers once its broker has started, so the requests of later `up`s wait for the first.
One that stops refuses them; then this waits until it is gone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

from msctl.cli.launch.started import started
from msctl.cli.launch.stop import GRACE_S, STOP_TIMEOUT_S
from msctl.cli.outcome import failed_services, failure_lines, reload_problems
from msctl.cli.output.result import Result
from msctl.cli.output.show_waiting import showing_waiting
from msctl.cli.output.terminal import colours
from msctl.cli.output.waiting import waited_for
from msctl.control.client import ControlClient
from msctl.control.paths import StackPaths, is_locked
from msctl.control.record import read_record
from msctl.errors import ExitCode, MsctlError, TimedOutError
from msctl.model.project import Project
from msctl.model.snapshots import Snapshot, State
from msctl.model.views import ReloadResult

_POLL_S = 0.02
_AT_REST = frozenset({State.STOPPED, State.EXITED, State.FATAL, State.SKIPPED})


def join_stack(
    project: Project, paths: StackPaths, names: Sequence[str], *, wait: bool, timeout: float | None
) -> Result | None:
    """Apply edits and start these services (none named: all with autostart); None once no stack runs.

    Returns at once if `wait` is False. Raises the error that kept the stack from starting, ConfigError for
    edits that it cannot apply, and TimedOutError after `timeout` seconds; then what has begun goes on.
    """
    client = ControlClient(paths, project.name)
    deadline = time.monotonic() + STOP_TIMEOUT_S + GRACE_S
    while True:
        try:
            if not wait:
                return _begin(client, project, paths, names)
            return _join(client, project, paths, names, timeout)
        except MsctlError as error:
            if error.exit_code is not ExitCode.NOT_RUNNING:
                raise
            if not is_locked(paths):
                return None
            if time.monotonic() >= deadline:
                raise
        time.sleep(_POLL_S)


def _begin(client: ControlClient, project: Project, paths: StackPaths, names: Sequence[str]) -> Result:
    client.apply(names)
    _say_running(project, paths)
    record = read_record(paths)
    text = "edits are applied and services are started in the background; see: msctl status"
    return Result("up", None if record is None else record.pid, lambda: [text])


def _join(
    client: ControlClient, project: Project, paths: StackPaths, names: Sequence[str], timeout: float | None
) -> Result:
    end = None if timeout is None else time.monotonic() + timeout
    try:
        with showing_waiting(client):
            reloaded = client.reload(timeout)
            before = client.snapshot()
            snapshot = client.start(
                names, timeout=None if end is None else max(_POLL_S, end - time.monotonic())
            )
    except TimedOutError as error:
        if timeout is None:
            raise
        waiting = waited_for(client.snapshot())
        sys.stderr.writelines(f"{one.text()}\n" for one in waiting)
        raise TimedOutError(
            f"project {project.name!r} was not ready after {timeout:g} s",
            hint="the stack was running before and runs on; see: msctl status",
        ) from error
    _say_running(project, paths)
    sys.stderr.writelines(f"{line}\n" for line in _changes(reloaded, before, snapshot))
    failed = failed_services(snapshot)
    return Result(
        "up",
        snapshot,
        lambda: started(project, paths, snapshot, coloured=colours(sys.stdout)),
        problems=(*reload_problems(reloaded, client), *failure_lines(failed, client)),
        exit_code=ExitCode.FAILED if failed or reloaded.failed else ExitCode.OK,
    )


def _say_running(project: Project, paths: StackPaths) -> None:
    record = read_record(paths)
    pid = f" (pid {record.pid})" if record else ""
    sys.stderr.write(f"the stack of project {project.name!r} is already running{pid}\n")


def _changes(reloaded: ReloadResult, before: Snapshot, after: Snapshot) -> Iterator[str]:
    """What the edits and the start have changed."""
    done = list(reloaded.done())
    rested = {service.name for service in before.services if service.state in _AT_REST}
    begun = [one.name for one in after.services if one.name in rested and one.state not in _AT_REST]
    if begun:
        done.append(f"started {', '.join(begun)}")
    if not done and not reloaded.failed:
        done.append("nothing has changed")
    yield from done

"""`up` and `down`: the life of a stack."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from msctl.cli.options.durations import parse_duration
from msctl.cli.output.render import LinePrinter, failures, print_failures, print_started, print_trust
from msctl.cli.session import Settings
from msctl.control.paths import StackLock, StackPaths, is_locked, stack_paths
from msctl.control.record import read_record
from msctl.errors import ExitCode, MsctlError, NotRunningError, TimedOutError, UsageError
from msctl.model.project import Project
from msctl.model.snapshots import LogLine, Snapshot

STOP_TIMEOUT = 30.0
GRACE = 5.0
"""Seconds beyond its own stop timeout after which a stack that is still there is killed."""


class LogFormat(StrEnum):
    """How the lines of a stack in the foreground are written."""

    TEXT = "text"
    JSON = "json"


def up(
    ctx: typer.Context,
    services: Annotated[
        list[str] | None, typer.Argument(help="These, and what they depend on. Default: all.")
    ] = None,
    detach: Annotated[
        bool,
        typer.Option("--detach", "-d", envvar="MSCTL_UP_DETACH", help="Return once everything is ready."),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--no-wait", envvar="MSCTL_UP_WAIT", help="With -d: wait until all services are ready."
        ),
    ] = True,
    wait_timeout: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_UP_WAIT_TIMEOUT",
            metavar="DURATION",
            help="With -d: give up after this long (10s, 2m), and leave nothing running.",
        ),
    ] = None,
    abort_on_failure: Annotated[
        bool,
        typer.Option(
            envvar="MSCTL_UP_ABORT_ON_FAILURE", help="End, with exit code 1, if a service does not start."
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            "-w",
            envvar="MSCTL_UP_WATCH",
            help="Reload when msctl.toml, .env or a source is edited.",
        ),
    ] = False,
    dev_tls: Annotated[
        bool,
        typer.Option(
            "--dev-tls",
            envvar="MSCTL_UP_DEV_TLS",
            help="The gateway speaks HTTPS, with a certificate for localhost from a local authority.",
        ),
    ] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(envvar="MSCTL_UP_LOG_FORMAT", help="Log lines for people, or one JSON document each."),
    ] = LogFormat.TEXT,
    isolate: Annotated[
        bool,
        typer.Option(
            "--isolated",
            envvar="MSCTL_UP_ISOLATED",
            help="A second copy, on free ports, under a name of its own.",
        ),
    ] = False,
) -> None:
    """Start the project's services, and stay to show their logs (Ctrl-C stops them).

    Without a msctl.toml here or above, this is the course's system: hello, users, a gateway and a
    producer. If the stack is up already, what is missing is started.
    """
    from msctl.cli.detach import start_detached

    settings: Settings = ctx.obj
    timeout = None if wait_timeout is None else parse_duration(wait_timeout, "--wait-timeout")
    if isolate:
        from secrets import token_hex

        settings = replace(settings, copy=token_hex(2))
    settings = replace(settings, dev_tls=dev_tls)
    project = settings.load().project
    if dev_tls and project.gateway is None:
        raise UsageError(
            "--dev-tls is for the gateway, and this project has switched it off",
            hint="take enabled = false out of [gateway]",
        )
    if isolate:
        reach = f"msctl --project {project.name} status"
        sys.stderr.write(f"this copy is the project {project.name!r}; reach it with: {reach}\n")
    paths = stack_paths(project.name, project.root, os.environ)
    names = services or []
    paths.prepare()
    lock = StackLock.acquire(paths)
    if lock is None:
        if watch:
            sys.stderr.write("--watch counts when a stack is started; for once there is: msctl reload\n")
        if dev_tls:
            sys.stderr.write(
                "--dev-tls counts when a stack is started: msctl down, then msctl up --dev-tls\n"
            )
        _join(settings, project, paths, names)
    elif detach:
        start_detached(settings, project, paths, names, lock, wait=wait, watch=watch, timeout=timeout)
    else:
        _foreground(
            settings, project, paths, names, log_format, abort_on_failure=abort_on_failure, watch=watch
        )


def _join(settings: Settings, project: Project, paths: StackPaths, names: list[str]) -> None:
    """The stack is up: say so and start what is missing."""
    client = settings.client()
    record = read_record(paths)
    pid = f" (pid {record.pid})" if record else ""
    sys.stderr.write(f"the stack of the project {project.name!r} is already up{pid}\n")
    snapshot = client.start(names)
    print_started(snapshot)
    if print_failures(snapshot, client):
        raise typer.Exit(int(ExitCode.FAILED))


class _Terminal:
    """Shows a stack that runs in the foreground; logs on standard output, the rest on error."""

    def __init__(self, project: Project, log_format: LogFormat, *, abort_on_failure: bool) -> None:
        self._printer = LinePrinter([spec.name for spec in project.services])
        self._as_json = log_format is LogFormat.JSON
        self._abort_on_failure = abort_on_failure
        self._project = project
        self.aborted = False

    def line(self, line: LogLine) -> None:
        if self._as_json:
            from msctl.telemetry.logs.lines import as_json

            sys.stdout.write(f"{as_json(line)}\n")
            sys.stdout.flush()
        else:
            self._printer.print(line)

    def open(self) -> None:
        """Nothing to say yet."""

    def up(self, snapshot: Snapshot) -> bool:
        print_started(snapshot, sys.stderr)
        print_trust(self._project, snapshot, sys.stderr)
        self.aborted = self._abort_on_failure and bool(failures(snapshot))
        return not self.aborted


def _foreground(
    settings: Settings,
    project: Project,
    paths: StackPaths,
    names: list[str],
    log_format: LogFormat,
    *,
    abort_on_failure: bool,
    watch: bool,
) -> None:
    from msctl.cli.launch import run_stack

    terminal = _Terminal(project, log_format, abort_on_failure=abort_on_failure)
    run_stack(settings, project, paths, names, terminal, watch=watch)
    if terminal.aborted:
        raise MsctlError("not every service could be started", hint="the reasons are above")


def down(
    ctx: typer.Context,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout",
            "-t",
            envvar="MSCTL_DOWN_TIMEOUT",
            metavar="DURATION",
            help="How long the services may take to stop (default 30s); then they are killed.",
        ),
    ] = None,
) -> None:
    """Stop everything and wait until it is gone. Down when nothing runs is fine."""
    settings: Settings = ctx.obj
    seconds = None if timeout is None else parse_duration(timeout, "--timeout")
    name, paths = settings.identify()
    if not is_locked(paths):
        sys.stderr.write(f"no stack is running for project {name!r}\n")
        return
    stop_stack(settings, name, paths, seconds)
    sys.stdout.write(f"stopped the stack of the project {name!r}\n")


def stop_stack(settings: Settings, name: str, paths: StackPaths, seconds: float | None) -> None:
    """Ask the stack to end and wait for it; kill it if it does not. Raises TimedOutError."""
    try:
        settings.client().shutdown(seconds)
    except (NotRunningError, TimedOutError):
        # It holds the lock but does not answer: about to open its socket, just gone from it, or stuck.
        _signal(paths, hard=False)
    if _wait_gone(paths, (STOP_TIMEOUT if seconds is None else seconds) + GRACE):
        return
    sys.stderr.write("the stack did not stop in time; killing it\n")
    _signal(paths, hard=True)
    if not _wait_gone(paths, GRACE):
        raise TimedOutError(
            f"the stack of the project {name!r} does not end",
            hint=f"look for the process that holds {paths.lock}",
        )


def _wait_gone(paths: StackPaths, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_locked(paths):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


def _signal(paths: StackPaths, *, hard: bool) -> None:
    import signal

    record = read_record(paths)
    if record is not None:
        try:
            os.kill(record.pid, signal.SIGKILL if hard else signal.SIGTERM)
        except ProcessLookupError:
            return

"""`up`: start the stack."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from msctl.cli.interrupts import exit_on_interrupt
from msctl.cli.launch.claim import Claim
from msctl.cli.options.completion import AnyServices
from msctl.cli.options.durations import parse_duration
from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.output.result import Result
from msctl.control.paths import stack_paths
from msctl.errors import UsageError


class LogFormat(StrEnum):
    """How the log lines of a stack in the foreground are written."""

    TEXT = "text"
    JSON = "json"


def up(
    ctx: typer.Context,
    services: AnyServices = None,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach", "-d", envvar="MSCTL_UP_DETACH", help="Run in the background; return when ready."
        ),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--no-wait",
            envvar="MSCTL_UP_WAIT",
            help="With -d, or if the stack runs already: wait until ready.",
        ),
    ] = True,
    wait_timeout: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_UP_WAIT_TIMEOUT",
            metavar="DURATION",
            help="With -d: stop the stack if it is not ready after this time (10s, 2m); one that ran "
            "before runs on.",
        ),
    ] = None,
    abort_on_failure: Annotated[
        bool,
        typer.Option(
            envvar="MSCTL_UP_ABORT_ON_FAILURE",
            show_default=False,
            help="Exit with 1 if a service does not start.",
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", "-w", envvar="MSCTL_UP_WATCH", help="Reload on edits of msctl.toml, .env and sources."
        ),
    ] = False,
    dev_tls: Annotated[
        bool,
        typer.Option(
            "--dev-tls",
            envvar="MSCTL_UP_DEV_TLS",
            help="Serve HTTPS at the gateway with a development certificate for localhost.",
        ),
    ] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(envvar="MSCTL_UP_LOG_FORMAT", help="Log lines as text, or one JSON document per line."),
    ] = LogFormat.TEXT,
    isolate: Annotated[
        bool,
        typer.Option(
            "--isolated",
            envvar="MSCTL_UP_ISOLATED",
            help="Run a second copy on free ports, under a name of its own.",
        ),
    ] = False,
) -> Result | None:
    """Start the services and show their logs until Ctrl-C.

    With SERVICE, start only those and their dependencies. In a folder without msctl.toml, here or above,
    this is the course's system: hello, users, a gateway and a producer. If the stack is already running
    or starting, wait for it, apply edits of msctl.toml as reload does, and start the services that are not
    running.

    \b
    Examples:
      msctl up
      msctl up -d --wait-timeout 30s
      msctl up users gateway --watch
    """
    options: GlobalOptions = ctx.obj
    timeout = None if wait_timeout is None else parse_duration(wait_timeout, "--wait-timeout")
    if isolate:
        from secrets import token_hex

        options = replace(options, copy=token_hex(2))
    options = replace(options, dev_tls=dev_tls)
    with exit_on_interrupt():
        resolved = options.load()
    project = resolved.project
    if resolved.unknown_variables:
        from msctl.cli.output.listings import unknown_variable_lines

        sys.stderr.writelines(f"{line}\n" for line in unknown_variable_lines(resolved))
    if dev_tls and project.gateway is None:
        raise UsageError(
            "--dev-tls needs the gateway, which this project disables",
            hint="remove enabled = false from [gateway]",
        )
    if isolate:
        sys.stderr.write(
            f"this copy is project {project.name!r}; reach it with: msctl --project {project.name} status\n"
        )
    paths = stack_paths(project.name, project.root, os.environ)
    names = services or []
    while True:
        paths.prepare()
        claim = Claim.take(paths)
        if claim is not None:
            break
        from msctl.cli.launch.join import join_stack

        if watch:
            sys.stderr.write("--watch has no effect on a running stack; use: msctl reload\n")
        if dev_tls:
            sys.stderr.write(
                "--dev-tls has no effect on a running stack; use: msctl down, msctl up --dev-tls\n"
            )
        joined = join_stack(project, paths, names, wait=wait, timeout=timeout)
        if joined is not None:
            return joined
    if detach:
        from msctl.cli.launch.detached import start_detached

        return start_detached(options, project, claim, names, wait=wait, watch=watch, timeout=timeout)
    from msctl.cli.launch.foreground import run_foreground

    run_foreground(
        options,
        project,
        claim,
        names,
        as_json=log_format is LogFormat.JSON,
        abort_on_failure=abort_on_failure,
        watch=watch,
    )
    return None

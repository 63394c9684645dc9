"""`serve`: exactly one service in the foreground."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from msctl.cli.options.completion import OneService
from msctl.cli.session import Settings
from msctl.errors import UsageError
from msctl.model.project import ServiceSpec
from msctl.model.snapshots import LOOPBACK, LogLine, Snapshot


def serve(
    ctx: typer.Context,
    service: OneService,
    host: Annotated[
        str | None, typer.Option(envvar=["MSCTL_SERVE_HOST", "HOST"], help="Listen on this address.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(envvar=["MSCTL_SERVE_PORT", "PORT"], min=0, max=65535, help="Listen on this port."),
    ] = None,
    instance: Annotated[
        str | None, typer.Option(envvar="MSCTL_SERVE_INSTANCE", help="What this copy calls itself.")
    ] = None,
) -> None:
    """Run one service alone, in the foreground, as a container does; SIGTERM ends it in order.

    It finds the broker by AMQP_URL, and the services that it needs (for the gateway: all) by
    MSCTL_<SERVICE>_URL. A command service is replaced by its program.
    """
    settings: Settings = ctx.obj
    project = settings.load().project
    spec = project.service(service)
    if spec is not None and spec.command is not None:
        _become(spec, host, port)
    from msctl.runtime.process_life import run
    from msctl.runtime.single_service import Single

    chosen = port if port is not None else (spec.port if spec is not None else None)
    if chosen is None:
        raise UsageError(f"the service {service!r} has no port of its own", hint="give one: --port 8080")
    run(
        lambda clock, logs: Single(
            project,
            service,
            instance=instance or f"{service}-1",
            host=host or (spec.host if spec is not None else LOOPBACK),
            port=chosen,
            clock=clock,
            logs=logs,
        ),
        _Audience(),
    )


class _Audience:
    """Shows the lines as they are: whoever runs us knows whose they are."""

    def line(self, line: LogLine) -> None:
        sys.stdout.write(f"{line.text}\n")
        sys.stdout.flush()

    def open(self) -> None:
        """Nothing to say: whoever runs us sees the port."""

    def up(self, _snapshot: Snapshot) -> bool:
        return True


def _become(spec: ServiceSpec, host: str | None, port: int | None) -> None:
    """Replace this process by the service's own program; returns never."""
    from msctl.processes.environment import fill_in

    env = {**os.environ, **spec.env}
    if host is not None:
        env["HOST"] = host
    if port is not None or spec.port is not None:
        env["PORT"] = str(spec.port if port is None else port)
    command = fill_in(spec.command or (), env)
    if spec.cwd is not None:
        os.chdir(spec.cwd)
    try:
        os.execvpe(command[0], command, env)  # noqa: S606 - the user's own command
    except OSError as error:
        raise UsageError(
            f"the command of {spec.name!r} cannot be run: {command[0]}: {error.strerror}",
            hint="is it installed, and on PATH?",
        ) from error

"""`serve`: one service alone, in the foreground."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from msctl.cli.options.completion import OneService
from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.output.background_writer import BackgroundWriter
from msctl.errors import UsageError
from msctl.model.address import LOOPBACK
from msctl.model.events import LogLine
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import Snapshot
from msctl.telemetry.logs.lines import as_record


def serve(
    ctx: typer.Context,
    service: OneService,
    host: Annotated[
        str | None,
        typer.Option(envvar=["MSCTL_SERVE_HOST", "HOST"], metavar="ADDRESS", help="The address to bind."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            envvar=["MSCTL_SERVE_PORT", "PORT"], metavar="PORT", min=0, max=65535, help="The port to bind."
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            envvar="MSCTL_SERVE_METRICS_PORT",
            metavar="PORT",
            min=0,
            max=65535,
            help="A port for /metrics alone; the gateway has none without it.",
        ),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option(envvar="MSCTL_SERVE_INSTANCE", metavar="NAME", help="The instance's name in logs."),
    ] = None,
    records: Annotated[bool, typer.Option("--records", hidden=True)] = False,
) -> None:
    """Run one service in the foreground, as a container does.

    It reads the broker's URL from AMQP_URL and those of its dependencies from MSCTL_<SERVICE>_URL.
    SIGTERM stops it gracefully. A command replaces this process.

    \b
    Example:
      msctl serve users --port 8081
    """
    options: GlobalOptions = ctx.obj
    project = options.load().project
    spec = project.service(service)
    if spec is not None and spec.command is not None:
        if metrics_port is not None:
            raise UsageError(
                f"--metrics-port has no effect on service {service!r}",
                hint="it is a command, with metrics of its own",
            )
        _exec(spec, project, instance or f"{service}-1", host, port)
    from msctl.runtime.exit import exits_soon
    from msctl.runtime.process_life import run
    from msctl.runtime.single_service import SingleService

    chosen = port if port is not None else (spec.port if spec is not None else None)
    if chosen is None:
        raise UsageError(f"service {service!r} has no port", hint="use --port, for example --port 8080")
    directory = project.root if spec is None else spec.cwd or project.root
    if directory is not None:
        os.chdir(directory)
    name = instance or f"{service}-1"
    output = _PlainOutput(records=records)
    with exits_soon():
        try:
            run(
                lambda clock, logs: SingleService(
                    project,
                    service,
                    instance=name,
                    host=host or (spec.host if spec is not None else LOOPBACK),
                    port=chosen,
                    clock=clock,
                    logs=logs,
                    metrics_port=metrics_port,
                ),
                output,
            )
        finally:
            output.close()


class _PlainOutput:
    """Prints log lines without a prefix: the caller knows which service runs.

    With `records` the caller is a stack, which gets the level, trace and fields of each too.
    """

    def __init__(self, *, records: bool) -> None:
        self._records = records
        self._stdout = sys.stdout.fileno()
        self._writer = BackgroundWriter()

    def line(self, line: LogLine) -> None:
        self._writer.put(self._stdout, as_record(line) if self._records else line.text)

    def close(self) -> None:
        self._writer.close()

    def open(self) -> None:
        """Print nothing: the port was given."""

    async def watch(self, snapshot: Callable[[], Awaitable[Snapshot]]) -> None:
        """Print nothing: its log says it."""

    def up(self, _snapshot: Snapshot) -> bool:
        return True


def _exec(spec: ServiceSpec, project: Project, instance: str, host: str | None, port: int | None) -> None:
    """Replace this process with the service's command. Raises UsageError if that cannot run.

    It is given what `up` would assign. The addresses of dependencies come from the environment, or from their
    `url`.
    """
    from msctl.processes.environment import environment, fill_in
    from msctl.runtime.dependencies import dependency_variables

    assigned = {"MSCTL_SERVICE": spec.name, "MSCTL_INSTANCE": instance, "AMQP_URL": project.broker.url}
    assigned |= dependency_variables(project, spec, os.environ)
    if host is not None:
        assigned["HOST"] = host
    if port is not None or spec.port is not None:
        assigned["PORT"] = str(spec.port if port is None else port)
    directory = spec.cwd or project.root
    env = environment(spec, project, shell=os.environ, assigned=assigned, directory=directory)
    command = fill_in(spec.command or (), env)
    if directory is not None:
        os.chdir(directory)
    try:
        os.execvpe(command[0], command, env)  # noqa: S606 - the user's own command
    except OSError as error:
        raise UsageError(
            f"cannot run the command of service {spec.name!r}: {command[0]}: {error.strerror}",
            hint="check that it is installed and on PATH",
        ) from error

"""The command line's frame: global options, the list of verbs, and the error boundary.

Everywhere else errors are raised; here alone they are printed and become an exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from msctl.cli import configuration, doctor, inspecting, lifecycle, messaging, status, up, watching
from msctl.cli.session import Settings
from msctl.errors import ExitCode, MsctlError

EXIT_CODES = """
Exit codes: 0 done, also after Ctrl-C where that is the way to end; 1 failed; 2 usage or configuration;
3 not running or not ready; 4 unknown service; 5 port taken; 6 broker unreachable or refused; 124 timed
out; 130 interrupted before it was done.
"""


class Boundary(TyperGroup):
    """The group of all verbs, which turns what a verb raises into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except MsctlError as error:
            print_error(error)
            raise typer.Exit(int(error.exit_code)) from error
        except BrokenPipeError as error:
            # The reader has had enough (`msctl logs | head`). Python would complain again when it
            # flushes standard output at exit, so that goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(int(ExitCode.OK)) from error


app = typer.Typer(
    name="msctl",
    cls=Boundary,
    help="Run a real microservice system on this machine, from one command, without Docker.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_error(error: MsctlError) -> None:
    """`error: …` and `hint: …` on standard error."""
    sys.stderr.write(f"error: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
    sys.stderr.flush()


def _show_version(wanted: bool) -> None:
    if wanted:
        from msctl import __version__

        sys.stdout.write(f"msctl {__version__} (Python {sys.version.split()[0]})\n")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", envvar="MSCTL_FILE", help="The msctl.toml to use."),
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", envvar="MSCTL_PROJECT", help="Call the project this.")
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", envvar="MSCTL_ENV_FILE", help="Read variables from this, not .env."),
    ] = None,
    no_color: Annotated[
        bool,
        typer.Option("--no-color", envvar="MSCTL_NO_COLOR", help="No colour; NO_COLOR does the same."),
    ] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    if no_color:
        os.environ["NO_COLOR"] = "1"
    ctx.obj = Settings(file=file, project=project, env_file=env_file)


app.command("up")(up.up)
app.command("down")(up.down)
app.command("status")(status.status)
app.command("ps", hidden=True)(status.status)
app.command("logs")(status.logs)
app.command("start")(lifecycle.start)
app.command("stop")(lifecycle.stop)
app.command("restart")(lifecycle.restart)
app.command("wait")(watching.wait)
app.command("events")(watching.events)
app.command("send")(messaging.send)
app.command("consume")(messaging.consume)
app.command("config")(configuration.config)
app.command("graph")(inspecting.graph)
app.command("ls")(inspecting.ls)
app.command("doctor")(doctor.doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; never raises but KeyboardInterrupt."""
    try:
        typer.main.get_command(app).main(args=argv, prog_name="msctl")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(ExitCode.FAILED)
    return int(ExitCode.OK)

"""The command line's frame: global options, the list of verbs, and the error boundary.

Everywhere else errors are raised; here alone they are printed and become an exit code.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from msctl.cli.session import Settings
from msctl.errors import ExitCode, MsctlError, UsageError

CONTEXT = {"help_option_names": ["-h", "--help"]}
EXIT_CODES = (
    "Exit codes: 0 done, also after Ctrl-C where that is the way to end; 1 failed; 2 usage or configuration; "
    "3 not running or not ready; 4 unknown service; 5 port taken; 6 broker unreachable or refused; "
    "124 timed out; 130 interrupted before it was done."
)


VERBS = {
    "up": "up:up",
    "down": "up:down",
    "status": "status:status",
    "ps": "status:status",
    "logs": "status:logs",
    "traces": "traces:traces",
    "start": "lifecycle:start",
    "stop": "lifecycle:stop",
    "restart": "lifecycle:restart",
    "reload": "reload:reload",
    "wait": "wait:wait",
    "events": "wait:events",
    "send": "messaging:send",
    "consume": "messaging:consume",
    "config": "config:config",
    "graph": "graph:graph",
    "ls": "graph:ls",
    "queues": "queues:queues",
    "routes": "routes:routes",
    "route": "routes:route",
    "serve": "serve:serve",
    "init": "init:init",
    "scale": "lifecycle:scale",
    "doctor": "doctor:doctor",
    "export": "export:export",
}
"""Each verb and where it is; a module is imported when its verb is used, or its help is shown."""

ALIASES = frozenset({"ps"})


class Boundary(TyperGroup):
    """The group of all verbs, which turns what a verb raises into a message and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        return [name for name in VERBS if name not in ALIASES]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's signature
        if cmd_name not in VERBS:
            return None
        module, _, function = VERBS[cmd_name].partition(":")
        verb = getattr(importlib.import_module(f"msctl.cli.verbs.{module}"), function)
        if not isinstance(verb, typer.Typer):
            single = typer.Typer(add_completion=False, context_settings=CONTEXT, rich_markup_mode="markdown")
            single.command(cmd_name)(verb)
            verb = single
        command = typer.main.get_command(verb)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches  # only this error needs it

            near = get_close_matches(args[0], VERBS, n=1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(f"there is no verb {args[0]!r}", hint=f"{meant}msctl --help lists them")
        return super().resolve_command(ctx, args)

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
    rich_markup_mode="markdown",
    context_settings=CONTEXT,
)


def print_error(error: MsctlError) -> None:
    """`error: …` and `hint: …` on standard error."""
    sys.stderr.write(f"error: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
    sys.stderr.flush()


def _show_version(wanted: bool) -> None:
    if wanted:
        from msctl.cli.version import describe

        sys.stdout.write(f"{describe()}\n")
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; never raises but KeyboardInterrupt."""
    try:
        typer.main.get_command(app).main(args=argv, prog_name="msctl")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(ExitCode.FAILED)
    return int(ExitCode.OK)

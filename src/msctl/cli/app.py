"""The command line: global options, and the boundary where errors become messages and exit codes.

Everywhere else errors are raised; only here are they printed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.output.terminal import plain
from msctl.cli.usage_errors import ParserError, from_parser
from msctl.cli.verb_group import HELP_OPTIONS, VerbGroup, discard_output
from msctl.errors import ExitCode, MsctlError, UsageError

EXIT_CODES = {
    0: "success; also Ctrl-C where that is how a verb ends",
    1: "failed",
    2: "invalid command line or configuration",
    3: "no stack is running, or a service is not ready",
    4: "unknown service",
    5: "port already in use",
    6: "broker unreachable, or it refused",
    124: "timed out",
    130: "interrupted before it was done",
}
_CODES = "\n".join(f"  {code:<5}{meaning}" for code, meaning in EXIT_CODES.items())


app = typer.Typer(
    name="msctl",
    cls=VerbGroup,
    help="""Run a microservice system on this machine, without Docker.

    \b
    Examples:
      msctl up                    start this project, or the course's system
      msctl status                show its services
      msctl send "Hello World!"   send a message
      msctl down                  stop it
    """,
    epilog=f"\b\nExit codes:\n{_CODES}\n\n'msctl VERB --help' shows a verb's options and examples.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=HELP_OPTIONS,
    subcommand_metavar="VERB [ARGS]...",
)


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
        typer.Option(
            "--file", "-f", envvar="MSCTL_FILE", metavar="PATH", help="Use this msctl.toml, or its folder."
        ),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option("--project", envvar="MSCTL_PROJECT", metavar="NAME", help="Use this project name."),
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file", envvar="MSCTL_ENV_FILE", metavar="PATH", help="Read variables from this, not .env."
        ),
    ] = None,
    no_color: Annotated[
        bool,
        typer.Option("--no-color", envvar="MSCTL_NO_COLOR", help="Disable colour, as NO_COLOR does."),
    ] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    if no_color:
        os.environ["NO_COLOR"] = "1"
    ctx.obj = GlobalOptions(file=file, project=project, env_file=env_file)


@cache
def _root() -> Any:
    return typer.main.get_command(app)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. Raises only KeyboardInterrupt."""
    for stream in (sys.stdout, sys.stderr):
        _escape_unencodable(stream)
    try:
        code = _root().main(args=argv, prog_name="msctl", standalone_mode=False)
        return code if isinstance(code, int) else int(ExitCode.OK)
    except MsctlError as error:
        return _fail(error)
    except ParserError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(f"{error}\n")
            return int(ExitCode.USAGE)
        return _fail(from_parser(error))
    except UnicodeEncodeError as error:
        return _fail(UsageError(f"not UTF-8: {error.object!a}"))
    except typer.Abort:
        return int(ExitCode.INTERRUPTED)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(ExitCode.FAILED)


def _fail(error: MsctlError) -> int:
    try:
        print_error(error)
    except BrokenPipeError:
        discard_output()
    return int(error.exit_code)


def print_error(error: MsctlError) -> None:
    """Print `error: …` and `hint: …` on standard error."""
    for label, text in (("error", error.message), ("hint", error.hint)):
        if text:
            shown = "\n".join(map(plain, text.split("\n")))
            sys.stderr.write(f"{label}: {shown}\n")
    sys.stderr.flush()


def _escape_unencodable(stream: Any) -> None:
    """Escape what a stream cannot encode: file names that are not UTF-8, arrows in the C locale."""
    if hasattr(stream, "reconfigure"):  # tests may replace it
        stream.reconfigure(errors="backslashreplace")

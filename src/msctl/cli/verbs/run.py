"""`run`: a command with the variables of the running stack."""

from __future__ import annotations

import os
import shutil
from typing import Annotated

import typer

from msctl.cli.options.dashes import WORDS_BEFORE_DASHES
from msctl.errors import UsageError


def run(
    ctx: typer.Context,
    words: Annotated[
        list[str], typer.Argument(metavar="[SERVICE] -- COMMAND...", help="A service, and a command.")
    ],
) -> None:
    """Run a command with a service's variables, or with the addresses of all services.

    \b
    Examples:
      msctl run -- sh -c 'curl "$USERS_URL/users"'
      msctl run orders -- python manage.py migrate

    The command replaces msctl: its exit code is the command's. It has the terminal, and runs in the
    current directory.
    """
    service, command = _split(ctx, words)
    found = ctx.obj.client().variables(service)
    env = {**found.defaults, **os.environ, **found.overrides}
    program = shutil.which(command[0], path=env.get("PATH"))
    if program is None:
        raise UsageError(f"command not found: {command[0]}", hint="check that it is installed and on PATH")
    try:
        os.execve(program, command, env)  # noqa: S606 - the user's own command
    except OSError as error:
        raise UsageError(f"cannot run {command[0]}: {error.strerror}") from error


def _split(ctx: typer.Context, words: list[str]) -> tuple[str | None, list[str]]:
    """The service, if one stands before the dashes, and the command's words."""
    before = ctx.meta.get(WORDS_BEFORE_DASHES)
    if before is None or before > 1 or len(words) == before:
        raise UsageError(
            "run needs a command after --", hint="for example: msctl run orders -- python manage.py migrate"
        )
    return (words[0], words[1:]) if before else (None, words)

"""`reload`: an edited project taken up by the stack that runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from msctl.cli.output.documents import write_document
from msctl.cli.output.render import LAST_LINES
from msctl.cli.output.terminal import printable
from msctl.errors import ExitCode
from msctl.model.snapshots import LogQuery


def reload(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", envvar="MSCTL_RELOAD_JSON", help="As JSON.")] = False,
) -> None:
    """Take up an edited msctl.toml and edited sources; only what changed is started anew.

    With an error in the file nothing changes (exit code 2). A new instance takes the old one's place
    once it is ready; if it does not become ready, the old one goes on (exit code 1). A program with a
    port of its own, or with a port that others were told, is stopped first, and started again as it was
    if the new one fails. The broker's settings need `msctl down` and `msctl up`.
    """
    client = ctx.obj.client()
    result = client.reload()
    if as_json:
        write_document("reload", result)
    else:
        sys.stdout.writelines(f"{line}\n" for line in result.done())
        if not result.done() and not result.failed:
            sys.stdout.write("nothing has changed\n")
    for name, why in result.failed.items():
        sys.stderr.write(f"{name} could not be brought up to date: {printable(why)}\n")
        for line in client.logs(LogQuery((name,), LAST_LINES)):
            sys.stderr.write(f"    {printable(line.text)}\n")
    if result.failed:
        raise typer.Exit(int(ExitCode.FAILED))

"""`down`: stop the stack."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.launch.stop import end_leftovers, stop_stack
from msctl.cli.options.durations import parse_duration
from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.output.result import Result
from msctl.control.paths import is_locked


def down(
    ctx: typer.Context,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout",
            "-t",
            envvar="MSCTL_DOWN_TIMEOUT",
            metavar="DURATION",
            help="Kill services that take longer to stop (default: 30s).",
        ),
    ] = None,
) -> Result:
    """Stop the stack, and wait until it has stopped.

    It is not an error if no stack is running; processes that a killed one left are ended.
    """
    options: GlobalOptions = ctx.obj
    seconds = None if timeout is None else parse_duration(timeout, "--timeout")
    name, paths = options.identify()
    if not is_locked(paths):
        ended = end_leftovers(paths)
        return Result("down", False, problems=(f"no stack is running for project {name!r}", *ended))
    stop_stack(options.client(), name, paths, seconds)
    return Result("down", True, lambda: [f"stopped the stack of project {name!r}"])

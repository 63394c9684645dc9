"""`open`: the dashboard in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.options.json_output import json_option
from msctl.cli.output.result import Result
from msctl.errors import NotRunningError


def open(  # noqa: A001 - the verb's name
    ctx: typer.Context,
    print_only: Annotated[
        bool, typer.Option("--print", envvar="MSCTL_OPEN_PRINT", help="Print the link only.")
    ] = False,
    as_json: Annotated[bool, json_option("open")] = False,
) -> Result:
    """Print the link to the dashboard, and open it in a browser if there is one.

    \b
    The link signs the browser in: whoever has it can act on the stack.

    \b
    Examples:
      msctl open
      msctl open --print
    """
    options: GlobalOptions = ctx.obj
    name, paths = options.identify()
    from msctl.control.paths import is_locked
    from msctl.control.record import read_record

    record = read_record(paths) if is_locked(paths) else None
    if record is None:
        raise NotRunningError(f"no stack is running for project {name!r}", hint="start it with: msctl up")
    link = record.dashboard_url
    if link is None:
        raise NotRunningError(
            f"project {name!r} has no dashboard",
            hint="see [dashboard] enabled and port; msctl logs msctl says whether the port was taken",
        )
    if not print_only and not as_json:
        from msctl.cli.launch.browser import open_browser

        open_browser(link, paths)
    return Result("open", {"url": link}, lambda: [link], as_json=as_json)

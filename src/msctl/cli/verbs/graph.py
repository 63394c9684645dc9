"""`graph`: the project's services, routes and dependencies."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.output.result import Result


class GraphFormat(StrEnum):
    """How `graph` draws."""

    ASCII = "ascii"
    MERMAID = "mermaid"
    JSON = "json"


def graph(
    ctx: typer.Context,
    output: Annotated[
        GraphFormat, typer.Option("--format", envvar="MSCTL_GRAPH_FORMAT", help="The output format.")
    ] = GraphFormat.ASCII,
) -> Result:
    """Draw the services with their routes and dependencies.

    \b
    Example:
      msctl graph --format mermaid
    """
    from msctl.cli.output.topology import as_ascii, as_mermaid, topology

    options: GlobalOptions = ctx.obj
    found = topology(options.load().project)
    draw = as_mermaid if output is GraphFormat.MERMAID else as_ascii
    return Result("graph", found, lambda: draw(found), as_json=output is GraphFormat.JSON)

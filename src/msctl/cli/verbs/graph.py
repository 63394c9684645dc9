"""`graph` and `ls`: what a project is made of, and which stacks run on this machine."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from msctl.cli.output.documents import write_document
from msctl.cli.session import Settings


class GraphFormat(StrEnum):
    """How `graph` draws."""

    ASCII = "ascii"
    MERMAID = "mermaid"
    JSON = "json"


def graph(
    ctx: typer.Context,
    form: Annotated[
        GraphFormat, typer.Option("--format", envvar="MSCTL_GRAPH_FORMAT", help="How to draw it.")
    ] = GraphFormat.ASCII,
) -> None:
    """Draw the project: what the gateway routes where, and which service needs which."""
    from msctl.cli.output.topology import as_ascii, as_mermaid, topology

    settings: Settings = ctx.obj
    found = topology(settings.load().project)
    if form is GraphFormat.JSON:
        write_document("graph", found)
    else:
        sys.stdout.write(as_ascii(found) if form is GraphFormat.ASCII else as_mermaid(found))


def ls(
    as_json: Annotated[bool, typer.Option("--json", envvar="MSCTL_LS_JSON", help="As JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", envvar="MSCTL_LS_QUIET", help="Only the projects' names.")
    ] = False,
) -> None:
    """List the stacks that run on this machine, whatever their project."""
    from msctl.control.paths import running_stacks
    from msctl.control.record import StackRecord, read_record

    found = [
        read_record(paths) or StackRecord(paths.folder.name, None, 0) for paths in running_stacks(os.environ)
    ]
    if as_json:
        write_document("stacks", found)
    elif quiet:
        sys.stdout.writelines(f"{record.project}\n" for record in found)
    else:
        from msctl.cli.output.tables import show, stack_lines

        show(stack_lines(found))

"""`config`: what msctl has understood."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from msctl.cli.output.documents import write_document
from msctl.cli.session import Settings


def config(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", envvar="MSCTL_CONFIG_JSON", help="As JSON.")] = False,
    explained: Annotated[
        bool,
        typer.Option("--explain", envvar="MSCTL_CONFIG_EXPLAIN", help="Show where each value came from."),
    ] = False,
) -> None:
    """Print the resolved configuration, passwords left out."""
    from msctl.config.render import explain, to_document, to_toml

    settings: Settings = ctx.obj
    resolved = settings.load()
    if explained and as_json:
        write_document("config", explain(resolved))
    elif explained:
        from msctl.cli.output.tables import explained_lines, show

        show(explained_lines(explain(resolved)))
    elif as_json:
        write_document("config", to_document(resolved.project))
    else:
        sys.stdout.write(to_toml(resolved.project))

"""`config`: what msctl has understood."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from msctl.cli.render import write_document
from msctl.cli.session import Settings


def config(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", envvar="MSCTL_CONFIG_JSON", help="As JSON.")] = False,
) -> None:
    """Print the resolved configuration."""
    from msctl.config import to_document, to_toml

    settings: Settings = ctx.obj
    project = settings.load().project
    if as_json:
        write_document("config", to_document(project))
    else:
        sys.stdout.write(to_toml(project))

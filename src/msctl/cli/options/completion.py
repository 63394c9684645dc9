"""Shell completion of service names, and the arguments that have it."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.session import Settings
from msctl.errors import MsctlError


def complete_service(ctx: typer.Context, incomplete: str) -> list[str]:
    """The project's services that begin like this; none where the configuration cannot be read."""
    options = ctx.find_root().params
    settings = Settings(options.get("file"), options.get("project"), options.get("env_file"))
    try:
        services = settings.load().project.services
    except MsctlError:
        return []
    return [spec.name for spec in services if spec.name.startswith(incomplete)]


ServiceNames = Annotated[
    list[str] | None,
    typer.Argument(help="Names or globs. Default: all.", autocompletion=complete_service),
]
SomeServices = Annotated[list[str], typer.Argument(help="Names or globs.", autocompletion=complete_service)]
OneService = Annotated[str, typer.Argument(help="Its name.", autocompletion=complete_service)]

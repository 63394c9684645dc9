"""Arguments that name services, with shell completion."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.options.global_options import GlobalOptions
from msctl.errors import MsctlError


def complete_service(ctx: typer.Context, incomplete: str) -> list[str]:
    """List the project's services that start with `incomplete`; none if the configuration is invalid."""
    given = ctx.find_root().params
    options = GlobalOptions(given.get("file"), given.get("project"), given.get("env_file"))
    try:
        services = options.load().project.services
    except MsctlError:
        return []
    return [spec.name for spec in services if spec.name.startswith(incomplete)]


AnyServices = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SERVICE]...", help="Names or globs (default: all).", autocompletion=complete_service
    ),
]
SomeServices = Annotated[
    list[str],
    typer.Argument(metavar="SERVICE...", help="Names or globs.", autocompletion=complete_service),
]
OneService = Annotated[
    str, typer.Argument(metavar="SERVICE", help="The service's name.", autocompletion=complete_service)
]

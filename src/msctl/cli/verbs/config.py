"""`config`: the resolved configuration."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.options.json_output import json_option
from msctl.cli.output.result import Result


def config(
    ctx: typer.Context,
    as_json: Annotated[bool, json_option("config")] = False,
    explained: Annotated[
        bool,
        typer.Option("--explain", envvar="MSCTL_CONFIG_EXPLAIN", help="Show where each value comes from."),
    ] = False,
) -> Result:
    """Print the resolved configuration, without secrets.

    \b
    Examples:
      msctl config
      msctl config --explain
    """
    from msctl.cli.output.listings import explained_lines, unknown_variable_lines
    from msctl.config.render import explain, to_document, to_toml

    options: GlobalOptions = ctx.obj
    resolved = options.load()
    if explained:
        keys = explain(resolved)
        problems = tuple(unknown_variable_lines(resolved))
        return Result("config", keys, lambda: explained_lines(keys), problems=problems, as_json=as_json)
    if as_json:
        return Result("config", to_document(resolved.project), as_json=True)
    return Result("config", None, lambda: to_toml(resolved.project).splitlines())

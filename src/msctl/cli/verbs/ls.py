"""`ls`: the stacks that run on this machine."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from msctl.cli.options.json_output import json_option
from msctl.cli.output.result import Result


def ls(
    as_json: Annotated[bool, json_option("ls")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", envvar="MSCTL_LS_QUIET", help="Print project names only.")
    ] = False,
) -> Result:
    """List the running stacks of all projects."""
    from dataclasses import replace

    from msctl.cli.output.listings import stack_lines
    from msctl.cli.output.terminal import plain
    from msctl.control.paths import running_stacks
    from msctl.control.record import StackRecord, read_record
    from msctl.model.broker_url import redact

    found = [
        read_record(paths) or StackRecord(paths.folder.name, None, 0) for paths in running_stacks(os.environ)
    ]
    found = [
        replace(
            one,
            broker_url=None if one.broker_url is None else redact(one.broker_url),
            dashboard_url=None if one.dashboard_url is None else one.dashboard_url.partition("?")[0],
        )
        for one in found
    ]
    if quiet:
        return Result("stacks", found, lambda: [plain(record.project) for record in found])
    return Result("stacks", found, lambda: stack_lines(found), as_json=as_json)

"""`doctor`: what on this machine keeps the project from running."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.options.json_output import json_option
from msctl.cli.output.result import Result
from msctl.errors import ExitCode


def doctor(
    ctx: typer.Context,
    as_json: Annotated[bool, json_option("doctor")] = False,
) -> Result:
    """Check the configuration, ports, programs, broker and limits.

    Exit code 1 if the project cannot run.
    """
    from msctl.cli.checks.machine import check_machine, check_python
    from msctl.cli.checks.project import check_project
    from msctl.cli.output.check_result import CheckVerdict
    from msctl.cli.output.listings import check_lines

    results = [check_python(), *check_project(ctx.obj), *check_machine()]
    failed = any(result.verdict is CheckVerdict.FAIL for result in results)
    return Result(
        "doctor",
        results,
        lambda: check_lines(results),
        exit_code=ExitCode.FAILED if failed else ExitCode.OK,
        as_json=as_json,
    )

"""`broker`: what the embedded broker keeps."""

from __future__ import annotations

import os

import typer

from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.output.result import Result

broker = typer.Typer(help="Manage what the embedded broker keeps on disk.", add_completion=False)


@broker.callback(no_args_is_help=True)
def group() -> None:
    """Manage what the embedded broker keeps on disk."""


@broker.command()
def reset(ctx: typer.Context) -> Result:
    """Delete the durable queues, exchanges and messages of a project that is not running.

    While the stack runs, use: msctl queues purge NAME, msctl queues delete NAME.
    """
    from msctl.broker.storage.folder import delete_log
    from msctl.cli.output.units import show_size
    from msctl.control.paths import is_locked
    from msctl.control.runs import broker_folder
    from msctl.errors import BrokerError

    options: GlobalOptions = ctx.obj
    name, paths = options.identify()
    if is_locked(paths):
        raise BrokerError(
            f"the stack of project {name!r} is running, and its broker uses the log",
            hint="stop it first: msctl down; or empty a queue: msctl queues purge NAME",
        )
    folder = broker_folder(paths, os.environ)
    try:
        size = delete_log(folder)
    except OSError as error:
        raise BrokerError(
            f"cannot delete the log in {folder}: {(error.strerror or str(error)).lower()}"
        ) from error
    found = f"deleted the broker's log of project {name!r}: {show_size(size)}"
    nothing = f"the broker of project {name!r} keeps nothing on disk"
    return Result("broker-reset", size, lambda: [found if size else nothing])

"""`queues`: the broker's queues, and commands to purge or delete one."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.options.json_output import json_option
from msctl.cli.output.result import Result
from msctl.errors import MsctlError

queues = typer.Typer(
    help="List the broker's queues; purge or delete one.",
    invoke_without_command=True,
    add_completion=False,
)

QueueName = Annotated[str, typer.Argument(metavar="NAME", help="The queue's name.")]


@queues.callback()
def list_queues(
    ctx: typer.Context,
    as_json: Annotated[bool, json_option("queues")] = False,
) -> Result | None:
    if ctx.invoked_subcommand is not None:
        return None
    options: GlobalOptions = ctx.obj
    broker = options.client().snapshot().broker
    found = broker.queues
    if found is None:
        raise MsctlError(
            f"a broker in mode {broker.mode.value!r} does not list its queues here",
            hint="use its own tools: rabbitmqctl list_queues, or its management page",
        )
    from msctl.cli.output.status_table import queue_lines

    return Result("queues", found, lambda: queue_lines(found), as_json=as_json)


@queues.command()
def purge(ctx: typer.Context, name: QueueName) -> Result:
    """Remove the messages that are ready in a queue of the embedded broker.

    Messages that were delivered but not acknowledged stay.
    """
    options: GlobalOptions = ctx.obj
    count = options.client().purge_queue(name)
    return Result("purged", count, lambda: [f"purged {count} messages from queue {name!r}"])


@queues.command()
def delete(ctx: typer.Context, name: QueueName) -> Result:
    """Delete a queue of the embedded broker, with its messages.

    Its consumers are cancelled.
    """
    options: GlobalOptions = ctx.obj
    count = options.client().delete_queue(name)
    return Result("deleted", count, lambda: [f"deleted queue {name!r} with {count} messages"])

"""`queues`: what waits in the broker, and emptying or deleting a queue of the embedded one."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from msctl.cli.output.documents import write_document
from msctl.cli.session import Settings
from msctl.errors import MsctlError

queues = typer.Typer(
    help="List the broker's queues; purge or delete one of the embedded broker.",
    invoke_without_command=True,
    add_completion=False,
)


@queues.callback()
def list_queues(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", envvar="MSCTL_QUEUES_JSON", help="As JSON.")] = False,
) -> None:
    if ctx.invoked_subcommand is not None:
        return
    settings: Settings = ctx.obj
    broker = settings.client().snapshot().broker
    if broker.queues is None:
        raise MsctlError(
            f"a broker in mode {broker.mode.value!r} does not tell msctl of its queues",
            hint="use its own tools: rabbitmqctl list_queues, or its management page",
        )
    if as_json:
        write_document("queues", broker.queues)
    else:
        from msctl.cli.output.tables import queue_lines, show

        show(queue_lines(broker.queues))


@queues.command()
def purge(
    ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="The queue.")]
) -> None:
    """Drop the messages that are ready in a queue; those that a consumer holds stay."""
    settings: Settings = ctx.obj
    count = settings.client().purge_queue(name)
    sys.stdout.write(f"purged {count} messages from the queue {name!r}\n")


@queues.command()
def delete(
    ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="The queue.")]
) -> None:
    """Delete a queue with all its messages; its consumers are cancelled."""
    settings: Settings = ctx.obj
    count = settings.client().delete_queue(name)
    sys.stdout.write(f"deleted the queue {name!r} with {count} messages\n")

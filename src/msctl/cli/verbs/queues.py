"""`queues`: the broker's queues, and what an operator does with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from msctl.cli.messaging.queue_place import QueuePlace
from msctl.cli.options.json_output import json_option
from msctl.cli.output.result import Result
from msctl.errors import UsageError

if TYPE_CHECKING:
    from msctl.amqp.queue_changes import Moved

queues = typer.Typer(
    help="List the broker's queues; look into them, declare, move, requeue, purge or delete.",
    invoke_without_command=True,
    add_completion=False,
)

QueueName = Annotated[str, typer.Argument(metavar="NAME", help="The queue's name.")]
BrokerUrlOption = Annotated[
    str | None,
    typer.Option("--url", envvar="AMQP_URL", metavar="URL", help="The broker (default: the project's)."),
]
ManagementOption = Annotated[
    str | None,
    typer.Option(
        "--management",
        metavar="URL",
        help="RabbitMQ's management API (default: port 15672 of the broker's host).",
    ),
]
Limit = Annotated[
    int | None, typer.Option("--count", "-n", metavar="N", min=1, help="At most N messages (default: all).")
]


@queues.callback()
def list_queues(
    ctx: typer.Context,
    as_json: Annotated[bool, json_option("queues")] = False,
    url: BrokerUrlOption = None,
    management: ManagementOption = None,
) -> Result | None:
    if ctx.invoked_subcommand is not None:
        return None
    place = QueuePlace.find(url, ctx.obj)
    found = None if place.broker is None else place.broker.queues
    if found is None:
        found = place.management(management).queues()
    from msctl.cli.output.status_table import queue_lines

    return Result("queues", found, lambda: queue_lines(found), as_json=as_json)


@queues.command()
def peek(
    ctx: typer.Context,
    name: QueueName,
    count: Limit = 10,
    as_json: Annotated[bool, json_option("queues peek")] = False,
    url: BrokerUrlOption = None,
) -> Result:
    """Show the messages at the head of a queue, and leave them there.

    In the embedded broker nothing changes. Elsewhere they are taken and put back, which marks them as
    redelivered.
    """
    place = QueuePlace.find(url, ctx.obj)
    if place.stack is not None:
        found = list(place.stack.peek_queue(name))[:count]
    else:
        from msctl.amqp.queue_admin import QueueAdmin
        from msctl.cli.messaging.streams import run

        found = list(run(QueueAdmin(lambda: place.url).look(name)))[:count]
    from msctl.cli.output.queue_tables import message_lines

    return Result("messages", found, lambda: message_lines(found), as_json=as_json)


@queues.command()
def bindings(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="The queue's name (default: all).", show_default=False),
    ] = None,
    as_json: Annotated[bool, json_option("queues bindings")] = False,
    url: BrokerUrlOption = None,
    management: ManagementOption = None,
) -> Result:
    """Show which exchanges send to a queue, by the broker's management API."""
    found = QueuePlace.find(url, ctx.obj).management(management).bindings(name)
    from msctl.cli.output.queue_tables import binding_lines

    return Result("bindings", found, lambda: binding_lines(found), as_json=as_json)


@queues.command()
def declare(
    ctx: typer.Context,
    name: QueueName,
    durable: Annotated[bool, typer.Option("--durable", help="It outlives a restart of the broker.")] = False,
    argument: Annotated[
        list[str] | None,
        typer.Option(
            "--argument", metavar="NAME=VALUE", help="An argument such as x-max-length=1000; repeatable."
        ),
    ] = None,
    bind: Annotated[
        list[str] | None,
        typer.Option(
            "--bind", metavar="EXCHANGE[:KEY]", help="Bind it to an exchange that exists; repeatable."
        ),
    ] = None,
    url: BrokerUrlOption = None,
) -> Result:
    """Declare a queue. One that exists with other properties is refused (exit code 6).

    \b
    Examples:
      msctl queues declare jobs --durable
      msctl queues declare audit --bind amq.topic:order.* --argument x-message-ttl=60000
    """
    from msctl.cli.options.message_options import queue_name

    arguments = dict(_argument(pair) for pair in argument or ())
    bound = [_binding(text) for text in bind or ()]
    name = queue_name(name)
    place = QueuePlace.find(url, ctx.obj)
    from msctl.amqp import queue_changes

    place.over_amqp(
        lambda connection: queue_changes.declare(
            connection, name, durable=durable, arguments=arguments, bindings=bound
        )
    )
    return Result("declared", name, lambda: [f"declared queue {name!r}"])


@queues.command()
def move(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="The queue with the messages.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="A queue that exists.")],
    count: Limit = None,
    url: BrokerUrlOption = None,
) -> Result:
    """Move the messages that are ready in a queue to the end of another.

    Each is acknowledged only when the broker has confirmed its copy: none is lost; after a failure one may
    be in both.
    """
    from msctl.amqp import queue_changes

    place = QueuePlace.find(url, ctx.obj)
    moved = place.over_amqp(lambda connection: queue_changes.move(connection, source, target, count))
    return _moved(moved)


@queues.command()
def requeue(ctx: typer.Context, name: QueueName, count: Limit = None, url: BrokerUrlOption = None) -> Result:
    """Move dead letters back to the queues in which they died. Other messages stay.

    Their history (x-death) ends, so that a consumer that counts deaths begins again.
    """
    from msctl.amqp import queue_changes

    place = QueuePlace.find(url, ctx.obj)
    return _moved(
        place.over_amqp(lambda connection: queue_changes.requeue_dead(connection, name, count)),
        left="no dead letters",
    )


@queues.command()
def purge(ctx: typer.Context, name: QueueName, url: BrokerUrlOption = None) -> Result:
    """Remove the messages that are ready in a queue.

    Messages that were delivered but not acknowledged stay.
    """
    place = QueuePlace.find(url, ctx.obj)
    if (stack := place.embedded_in) is not None:
        count = stack.purge_queue(name)
    else:
        from msctl.amqp import queue_changes

        count = place.over_amqp(lambda connection: queue_changes.purge(connection, name))
    return Result("purged", count, lambda: [f"purged {_messages(count)} from queue {name!r}"])


@queues.command()
def delete(ctx: typer.Context, name: QueueName, url: BrokerUrlOption = None) -> Result:
    """Delete a queue, with its messages.

    Its consumers are cancelled.
    """
    place = QueuePlace.find(url, ctx.obj)
    if (stack := place.embedded_in) is not None:
        count = stack.delete_queue(name)
    else:
        from msctl.amqp import queue_changes

        count = place.over_amqp(lambda connection: queue_changes.delete(connection, name))
    return Result("deleted", count, lambda: [f"deleted queue {name!r} with {_messages(count)}"])


def _moved(moved: Moved, *, left: str = "") -> Result:
    lines = [f"moved {_messages(number)} to queue {queue!r}" for queue, number in moved.to.items()]
    if not lines:
        lines = ["moved no messages"]
    if moved.left:
        lines.append(f"{_messages(moved.left)} stayed: {left}")
    return Result("moved", moved, lambda: lines)


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _argument(pair: str) -> tuple[str, Any]:
    """Read NAME=VALUE: whole numbers, true and false are what they look like, anything else is text."""
    name, equals, value = pair.partition("=")
    if not name or not equals:
        raise UsageError(f"--argument: {pair!r} is not of the form NAME=VALUE")
    if value in ("true", "false"):
        return name, value == "true"
    try:
        return name, int(value)
    except ValueError:
        return name, value


def _binding(text: str) -> tuple[str, str]:
    exchange, _, key = text.partition(":")
    if not exchange:
        raise UsageError(
            f"--bind: {text!r} names no exchange", hint="every queue is bound to the default exchange anyway"
        )
    return exchange, key

"""`consume`: print messages of a queue, with or without a running stack.

Importing this module imports neither asyncio nor an AMQP library: only a valid command line does.
"""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.messaging.broker_url import resolve_url
from msctl.cli.options.durations import parse_timeout
from msctl.cli.options.message_options import DEFAULT_QUEUE, Ack, MessageFormat, queue_name
from msctl.cli.output.result import Result
from msctl.errors import ExitCode

MAX_PREFETCH = 65535


def consume(
    ctx: typer.Context,
    count: Annotated[
        int | None,
        typer.Option(
            "--count", "-n", envvar="MSCTL_CONSUME_COUNT", metavar="N", min=1, help="Stop after N messages."
        ),
    ] = None,
    exit_on_empty: Annotated[
        bool,
        typer.Option(
            "--exit-on-empty", envvar="MSCTL_CONSUME_EXIT_ON_EMPTY", help="Stop when the queue is empty."
        ),
    ] = False,
    idle_timeout: Annotated[
        str | None,
        typer.Option(
            "--idle-timeout",
            envvar="MSCTL_CONSUME_IDLE_TIMEOUT",
            metavar="DURATION",
            help="Stop after this time without a message (exit code 124 before N messages).",
        ),
    ] = None,
    ack: Annotated[
        Ack,
        typer.Option(
            "--ack",
            envvar="MSCTL_CONSUME_ACK",
            help="After printing: acknowledge in batches or one by one, reject, or requeue.",
        ),
    ] = Ack.AUTO,
    prefetch: Annotated[
        int | None,
        typer.Option(
            "--prefetch",
            envvar="MSCTL_CONSUME_PREFETCH",
            metavar="N",
            min=1,
            max=MAX_PREFETCH,
            help="Maximum unacknowledged messages (default: 1000; 1 with --ack manual).",
        ),
    ] = None,
    output: Annotated[
        MessageFormat,
        typer.Option("--output", "-o", envvar="MSCTL_CONSUME_OUTPUT", help="The output format."),
    ] = MessageFormat.TEXT,
    queue: Annotated[
        str,
        typer.Option(
            "--queue", envvar="MSCTL_CONSUME_QUEUE", metavar="NAME", help="The queue, declared first."
        ),
    ] = DEFAULT_QUEUE,
    durable: Annotated[
        bool,
        typer.Option(
            "--durable",
            envvar="MSCTL_CONSUME_DURABLE",
            help="Declare the queue durable: it outlives a restart of the broker.",
        ),
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            envvar=["MSCTL_CONSUME_URL", "AMQP_URL"],
            metavar="URL",
            help="The broker (default: the project's).",
        ),
    ] = None,
) -> Result:
    """Print messages of a queue until Ctrl-C.

    A message is acknowledged only after it was printed; with -n, no more than N are taken. Ctrl-C before
    -n or --exit-on-empty is met is exit code 130.

    \b
    Examples:
      msctl consume
      msctl consume -n 1 --idle-timeout 10s
      msctl consume --queue jobs --exit-on-empty -o json
    """
    idle = None if idle_timeout is None else parse_timeout(idle_timeout, "--idle-timeout")
    name = queue_name(queue)
    broker = resolve_url(url, ctx.obj)

    try:
        from msctl.cli.messaging.consuming import ConsumeRequest, consume_messages
        from msctl.cli.messaging.streams import run

        request = ConsumeRequest(
            url=broker,
            queue=name,
            count=count,
            exit_on_empty=exit_on_empty,
            idle_timeout=idle,
            ack=ack,
            prefetch=prefetch,
            output=output,
            durable=durable,
        )
        result = run(consume_messages(request))
        received, interrupted = result.received, result.interrupted
    except KeyboardInterrupt:  # before it was connected
        received, interrupted = 0, True
    has_goal = count is not None or exit_on_empty
    code = ExitCode.INTERRUPTED if interrupted and has_goal else ExitCode.OK
    return Result("consumed", received, exit_code=code)

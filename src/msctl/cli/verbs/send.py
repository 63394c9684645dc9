"""`send`: publish messages to the broker, with or without a running stack.

Importing this module imports neither asyncio nor an AMQP library: only a valid command line does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from msctl.cli.messaging.broker_url import resolve_url
from msctl.cli.options.durations import parse_timeout
from msctl.cli.options.message_options import (
    DEFAULT_QUEUE,
    entity_name,
    parse_properties,
    parse_rate,
    queue_name,
    short_string,
)
from msctl.cli.output.result import Result
from msctl.errors import ExitCode, UsageError


def send(
    ctx: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(metavar="[TEXT]", help="The message; - reads standard input.", show_default=False),
    ] = None,
    by_line: Annotated[
        bool, typer.Option("--lines", envvar="MSCTL_SEND_LINES", help="Send each line as a message.")
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", envvar="MSCTL_SEND_FILE", metavar="PATH", help="Send this file's contents."),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "--count", "-n", envvar="MSCTL_SEND_COUNT", metavar="N", min=1, help="Send the message N times."
        ),
    ] = 1,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate", envvar="MSCTL_SEND_RATE", metavar="RATE", help="Maximum rate: 100 (per second), 30/m."
        ),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header", envvar="MSCTL_SEND_HEADER", metavar="NAME=VALUE", help="A header; repeatable."
        ),
    ] = None,
    prop: Annotated[
        list[str] | None,
        typer.Option(
            "--property",
            envvar="MSCTL_SEND_PROPERTY",
            metavar="NAME=VALUE",
            help="An AMQP property; repeatable.",
        ),
    ] = None,
    content_type: Annotated[
        str | None,
        typer.Option(
            "--content-type",
            envvar="MSCTL_SEND_CONTENT_TYPE",
            metavar="TYPE",
            help="The media type (default: text/plain).",
        ),
    ] = None,
    persistent: Annotated[
        bool,
        typer.Option(
            "--persistent",
            envvar="MSCTL_SEND_PERSISTENT",
            help="Mark messages persistent: a durable queue keeps them on disk.",
        ),
    ] = False,
    durable: Annotated[
        bool,
        typer.Option(
            "--durable",
            envvar="MSCTL_SEND_DURABLE",
            help="Declare the queue durable and mark messages persistent: they outlive a restart of the "
            "broker.",
        ),
    ] = False,
    exchange: Annotated[
        str,
        typer.Option(
            "--exchange",
            envvar="MSCTL_SEND_EXCHANGE",
            metavar="NAME",
            help="The exchange (default: the default exchange).",
        ),
    ] = "",
    key: Annotated[
        str | None,
        typer.Option(
            "--key", envvar="MSCTL_SEND_KEY", metavar="KEY", help="The routing key (default: the queue)."
        ),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue",
            envvar="MSCTL_SEND_QUEUE",
            metavar="NAME",
            help=f"The queue, declared first (default: {DEFAULT_QUEUE}).",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            envvar=["MSCTL_SEND_URL", "AMQP_URL"],
            metavar="URL",
            help="The broker (default: the project's).",
        ),
    ] = None,
    confirm: Annotated[
        bool,
        typer.Option(
            "--confirm/--no-confirm", envvar="MSCTL_SEND_CONFIRM", help="Wait for the broker's confirms."
        ),
    ] = True,
    timeout: Annotated[
        str,
        typer.Option(
            "--timeout",
            envvar="MSCTL_SEND_TIMEOUT",
            metavar="DURATION",
            help="How long to wait for the broker.",
        ),
    ] = "30s",
) -> Result:
    """Send messages to a queue or an exchange.

    Returns when the broker has confirmed them.

    \b
    Examples:
      msctl send "Hello World!"
      msctl send - --lines --queue jobs < jobs.txt
      msctl send '{"id": 1}' --exchange orders --key order.created
    """
    _check_source(text, file, by_line=by_line, count=count)
    declared = _declared_queue(queue, exchange, key)
    if durable and declared is None:
        raise UsageError("--durable has no effect: no queue is declared", hint="name one: --queue NAME")
    properties = parse_properties(
        prop or [], header or [], content_type=content_type, persistent=persistent, durable=durable
    )
    pace = None if rate is None else parse_rate(rate)
    if pace is not None and not by_line and count == 1:
        raise UsageError("--rate has no effect on one message", hint="use it with --lines or --count")
    seconds = parse_timeout(timeout, "--timeout")
    routing_key = short_string("--key", key) if key is not None else declared or ""
    exchange = entity_name("--exchange", exchange)
    if file is not None:
        _check_readable(file)
    broker = resolve_url(url, ctx.obj)

    from msctl.cli.messaging.sending import SendRequest, send_messages
    from msctl.cli.messaging.streams import run
    from msctl.cli.output.message_format import shown

    request = SendRequest(
        url=broker,
        queue=declared,
        exchange=exchange,
        key=routing_key,
        properties=properties,
        text=None if text is None or text == "-" else os.fsencode(text),
        file=file,
        by_line=by_line,
        count=count,
        rate=pace,
        confirm=confirm,
        timeout=seconds,
        durable=durable,
    )
    result = run(send_messages(request))
    stats = result.stats
    if result.interrupted:
        done = stats.confirmed if confirm else stats.sent - len(stats.unconfirmed)
        lost = f", {len(stats.unconfirmed)} sent but not confirmed" if stats.unconfirmed else ""
        return Result(
            "sent",
            stats.sent,
            problems=(f"interrupted: {done} {'confirmed' if confirm else 'sent'}{lost}",),
            exit_code=ExitCode.INTERRUPTED,
        )
    body = result.body
    if body is not None:
        return Result("sent", 1, lambda: [f"Sent: {shown(body)}"])
    text = f"Sent {stats.sent} message{'' if stats.sent == 1 else 's'}"
    if result.repeated:
        from msctl.cli.messaging.sending import ranges

        where = ranges(result.repeated, request.noun)
        text += f"; {len(result.repeated)} of them possibly twice ({where}): the connection was lost"
    return Result("sent", stats.sent, lambda: [text])


def _check_source(text: str | None, file: Path | None, *, by_line: bool, count: int) -> None:
    """Raise UsageError unless exactly one source is given."""
    if text is None and file is None:
        raise UsageError("missing argument TEXT", hint="use - to read standard input, or --file")
    if text is not None and file is not None:
        raise UsageError("TEXT and --file cannot be combined")
    if by_line and count > 1:
        raise UsageError("--count and --lines cannot be combined")


def _check_readable(file: Path) -> None:
    """Raise UsageError for a file that cannot be read, before a broker is looked for."""
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        from msctl.cli.messaging.streams import unreadable

        raise unreadable(str(file), error) from error


def _declared_queue(queue: str | None, exchange: str, key: str | None) -> str | None:
    """Return the queue to declare: none if only an exchange or a routing key is given."""
    if queue is not None:
        return queue_name(queue)
    return DEFAULT_QUEUE if not exchange and key is None else None

"""`send` and `consume`: the verbs that talk to the broker itself, with or without a stack.

Importing this module imports neither asyncio nor an AMQP library: a verb that needs them does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from msctl.cli.options.durations import parse_duration
from msctl.cli.options.message_options import parse_properties, parse_rate, queue_name, short_string
from msctl.cli.output.message_text import Form, shown
from msctl.cli.session import Settings
from msctl.control.paths import is_locked
from msctl.control.record import read_record
from msctl.errors import UsageError

QUEUE = "hello"
MAX_PREFETCH = 65535
INTERRUPTED = 130


def send(
    ctx: typer.Context,
    text: Annotated[
        str | None, typer.Argument(help="The message; - reads standard input.", show_default=False)
    ] = None,
    by_line: Annotated[
        bool, typer.Option("--lines", envvar="MSCTL_SEND_LINES", help="Each line is a message of its own.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option("--file", envvar="MSCTL_SEND_FILE", help="Send the contents of this file.")
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", envvar="MSCTL_SEND_COUNT", min=1, help="Send the message N times.")
    ] = 1,
    rate: Annotated[
        str | None,
        typer.Option("--rate", envvar="MSCTL_SEND_RATE", metavar="R", help="At most R messages a second."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", envvar="MSCTL_SEND_HEADER", metavar="K=V", help="A header; repeatable."),
    ] = None,
    prop: Annotated[
        list[str] | None,
        typer.Option(
            "--property", envvar="MSCTL_SEND_PROPERTY", metavar="K=V", help="An AMQP property; repeatable."
        ),
    ] = None,
    content_type: Annotated[
        str | None,
        typer.Option(
            "--content-type", envvar="MSCTL_SEND_CONTENT_TYPE", help="Its media type. [default: text/plain]"
        ),
    ] = None,
    persistent: Annotated[
        bool,
        typer.Option(
            "--persistent", envvar="MSCTL_SEND_PERSISTENT", help="Let a durable queue keep it on disk."
        ),
    ] = False,
    exchange: Annotated[
        str,
        typer.Option(
            "--exchange", envvar="MSCTL_SEND_EXCHANGE", help="Publish to this exchange, not to a queue."
        ),
    ] = "",
    key: Annotated[
        str | None,
        typer.Option("--key", envvar="MSCTL_SEND_KEY", help="The routing key. [default: the queue's name]"),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue",
            envvar="MSCTL_SEND_QUEUE",
            help=f"Declare this queue, and send to it. [default: {QUEUE}]",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            envvar=["MSCTL_SEND_URL", "AMQP_URL"],
            show_envvar=True,
            help="The broker. [default: the project's]",
        ),
    ] = None,
    confirm: Annotated[
        bool,
        typer.Option(
            "--confirm/--no-confirm", envvar="MSCTL_SEND_CONFIRM", help="Wait until the broker has it."
        ),
    ] = True,
    timeout: Annotated[
        str,
        typer.Option(
            "--timeout", envvar="MSCTL_SEND_TIMEOUT", help="How long the broker may keep us waiting."
        ),
    ] = "30s",
) -> None:
    """Send messages, and return when the broker has confirmed them.

    To queue 'hello', unless --queue, or --exchange and --key, say otherwise.
    """
    _check_source(text, file, by_line=by_line, count=count)
    declared = _declared_queue(queue, exchange, key)
    properties = parse_properties(prop or [], header or [], content_type=content_type, persistent=persistent)
    pace = None if rate is None else parse_rate(rate)
    seconds = _positive("--timeout", timeout)
    routing_key = short_string("--key", key) if key is not None else declared or ""
    broker = resolve_url(url, ctx.obj)

    from msctl.cli.output.streams import run
    from msctl.cli.sending import SendRequest, note, send_messages

    request = SendRequest(
        url=broker,
        queue=declared,
        exchange=short_string("--exchange", exchange),
        key=routing_key,
        properties=properties,
        text=None if text is None or text == "-" else os.fsencode(text),
        file=file,
        by_line=by_line,
        count=count,
        rate=pace,
        confirm=confirm,
        timeout=seconds,
    )
    result = run(send_messages(request))
    account = result.stats
    if result.interrupted:
        done = account.confirmed if confirm else account.sent - len(account.unconfirmed)
        lost = f", {len(account.unconfirmed)} sent but not confirmed" if account.unconfirmed else ""
        note(f"interrupted: {done} {'confirmed' if confirm else 'sent'}{lost}")
        raise typer.Exit(INTERRUPTED)
    if result.body is not None:
        sys.stdout.write(f"Sent: {shown(result.body)}\n")
    else:
        sys.stdout.write(f"Sent {account.sent} message{'' if account.sent == 1 else 's'}\n")


def consume(
    ctx: typer.Context,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", envvar="MSCTL_CONSUME_COUNT", min=1, help="End after N messages."),
    ] = None,
    exit_on_empty: Annotated[
        bool,
        typer.Option(
            "--exit-on-empty", envvar="MSCTL_CONSUME_EXIT_ON_EMPTY", help="End when the queue is empty."
        ),
    ] = False,
    idle_timeout: Annotated[
        str | None,
        typer.Option(
            "--idle-timeout",
            envvar="MSCTL_CONSUME_IDLE_TIMEOUT",
            metavar="D",
            help="End when no message came for this long (exit code 124 if -n was not reached).",
        ),
    ] = None,
    ack: Annotated[
        str,
        typer.Option(
            "--ack",
            envvar="MSCTL_CONSUME_ACK",
            metavar="auto|manual|reject|requeue",
            help="After printing: acknowledge (in batches, or one by one), discard, or put back at the end.",
        ),
    ] = "auto",
    prefetch: Annotated[
        int | None,
        typer.Option(
            "--prefetch",
            envvar="MSCTL_CONSUME_PREFETCH",
            min=1,
            max=MAX_PREFETCH,
            help="Messages on their way at a time. [default: 1000; 1 with --ack manual]",
        ),
    ] = None,
    output: Annotated[
        Form, typer.Option("--output", "-o", envvar="MSCTL_CONSUME_OUTPUT", help="How to print a message.")
    ] = Form.TEXT,
    queue: Annotated[
        str,
        typer.Option("--queue", envvar="MSCTL_CONSUME_QUEUE", help="Declare this queue, and take from it."),
    ] = QUEUE,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            envvar=["MSCTL_CONSUME_URL", "AMQP_URL"],
            show_envvar=True,
            help="The broker. [default: the project's]",
        ),
    ] = None,
) -> None:
    """Print messages as they come, until Ctrl-C.

    A message leaves the queue only when it has been printed; with -n no more than N leave it.
    """
    idle = None if idle_timeout is None else _positive("--idle-timeout", idle_timeout)
    name = queue_name(queue)
    broker = resolve_url(url, ctx.obj)

    try:
        from msctl.cli.consuming import Ack, ConsumeRequest, consume_messages
        from msctl.cli.output.streams import run

        if ack not in list(Ack):
            raise UsageError(f"--ack: {ack!r} is none of {', '.join(Ack)}")
        request = ConsumeRequest(
            url=broker,
            queue=name,
            count=count,
            exit_on_empty=exit_on_empty,
            idle_timeout=idle,
            ack=Ack(ack),
            prefetch=prefetch,
            form=output,
        )
        run(consume_messages(request))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None  # Ctrl-C is the way to end, also before there is a broker


def resolve_url(url: str | None, settings: Settings) -> str:
    """The broker to use: the one that was named, else that of the project's running stack, else
    the configured one. Raises ConfigError."""
    if url is not None:
        return url
    _, paths = settings.identify()
    record = read_record(paths) if is_locked(paths) else None
    if record is not None and record.broker_url is not None:
        return record.broker_url
    return settings.load().project.broker.url


def _check_source(text: str | None, file: Path | None, *, by_line: bool, count: int) -> None:
    """Raises UsageError where it is not clear what to send."""
    if text is None and file is None:
        raise UsageError("nothing to send", hint="give a TEXT, - to read standard input, or --file")
    if text is not None and file is not None:
        raise UsageError("TEXT and --file cannot both be sent: give one of them")
    if by_line and count > 1:
        raise UsageError("--count repeats one message: it cannot go with --lines")


def _declared_queue(queue: str | None, exchange: str, key: str | None) -> str | None:
    """The queue to declare first; none where the user names an exchange or a key but no queue."""
    if queue is not None:
        return queue_name(queue)
    return QUEUE if not exchange and key is None else None


def _positive(option: str, text: str) -> float:
    seconds = parse_duration(text, option)
    if seconds <= 0:
        raise UsageError(f"{option}: {text!r} is not longer than no time at all")
    return seconds

"""`send --lines` and `consume` against the Go client: pipelined confirms, and automatic acknowledgement.

Both read the same file, and use the same queue of the same RabbitMQ; starting Python counts for neither.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import aio_pika

from msctl.cli.messaging.consuming import ConsumeRequest, consume_messages
from msctl.cli.messaging.sending import SendRequest, send_messages
from msctl.cli.messaging.streams import run
from msctl.cli.options.message_options import Ack, MessageFormat, parse_properties
from tests.bench.bench_broker import build
from tests.bench.result import Result, in_turn, seconds
from tests.support.rabbitmq import running_node

LINES = 50_000
QUEUE = "bench"


async def declare(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(QUEUE)


async def purge(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        queue = await (await connection.channel()).get_queue(QUEUE)
        await queue.purge()


def send_lines(url: str, path: Path) -> None:
    request = SendRequest(
        url=url,
        queue=None,
        exchange="",
        key=QUEUE,
        properties=parse_properties([], [], content_type=None, persistent=False),
        text=None,
        file=path,
        by_line=True,
        count=1,
        rate=None,
        confirm=True,
        timeout=30.0,
    )
    if run(send_messages(request)).stats.confirmed != LINES:
        raise RuntimeError("not every line was confirmed")


def consume_lines(url: str) -> None:
    request = ConsumeRequest(
        url=url,
        queue=QUEUE,
        count=None,
        exit_on_empty=True,
        idle_timeout=None,
        ack=Ack.AUTO,
        prefetch=None,
        output=MessageFormat.TEXT,
    )
    if _quietly(lambda: run(consume_messages(request)).received) != LINES:
        raise RuntimeError("not every message was received")


def _quietly(work: Callable[[], int]) -> int:
    """Run `work` with standard output and error to a file."""
    saved = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        try:
            return work()
        finally:
            for number, copy in enumerate(saved, 1):
                os.dup2(copy, number)
                os.close(copy)


def results() -> Iterator[Result]:
    with running_node() as node, tempfile.TemporaryDirectory(prefix="msctl-") as base:
        url, path = node.url, Path(base) / "lines.txt"
        go = build(Path(base), "go/lines.go")
        path.write_bytes(b"".join(b"line %d\n" % number for number in range(LINES)))
        run(declare(url))

        def theirs(*arguments: str) -> float:
            done = subprocess.run(
                [go, url, QUEUE, *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            return LINES / float(done.stdout)

        def fill() -> None:
            theirs("send", str(path))

        def sent(work: Callable[[], float]) -> float:
            run(purge(url))
            return work()

        def consumed(work: Callable[[], float]) -> float:
            run(purge(url))
            fill()
            return work()

        pair = in_turn(
            lambda: sent(lambda: LINES / seconds(lambda: send_lines(url, path))),
            lambda: sent(lambda: theirs("send", str(path))),
            rounds=3,
        )
        yield Result("send --lines / amqp091-go, confirms pipelined", *pair, "msg/s", at_least=1.0)
        pair = in_turn(
            lambda: consumed(lambda: LINES / seconds(lambda: consume_lines(url))),
            lambda: consumed(lambda: theirs("consume", str(LINES))),
            rounds=3,
        )
        yield Result("consume / amqp091-go, automatic acks", *pair, "msg/s", at_least=1.0)

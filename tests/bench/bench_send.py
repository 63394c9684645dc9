"""`send --lines` with confirms, against a program that awaits aio-pika's publish for each line.

Both read the same file, publish to the same queue of the same RabbitMQ, and run on the same kind of
event loop; starting Python counts for neither.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import aio_pika

from msctl.cli.messaging.sending import SendRequest, send_messages
from msctl.cli.messaging.streams import run
from msctl.cli.options.message_options import parse_properties
from tests.bench.result import Result, in_turn, seconds
from tests.support.rabbitmq import running_node

LINES = 4000
QUEUE = "bench"


async def line_by_line(url: str, path: Path) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(on_return_raises=True)
        for line in path.read_bytes().splitlines():
            message = aio_pika.Message(line, content_type="text/plain")
            await channel.default_exchange.publish(message, routing_key=QUEUE)


async def declare(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(QUEUE, arguments={"x-max-length": 10})


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


def results() -> Iterator[Result]:
    with running_node() as node, tempfile.TemporaryDirectory(prefix="msctl-") as folder:
        url, path = node.url, Path(folder) / "lines.txt"
        path.write_bytes(b"".join(b"%d\n" % number for number in range(LINES)))
        run(declare(url))
        ours, theirs = in_turn(
            lambda: LINES / seconds(lambda: send_lines(url, path)),
            lambda: LINES / seconds(lambda: run(line_by_line(url, path))),
        )
        yield Result("send --lines / awaiting aio-pika's publish", ours, theirs, "msg/s", at_least=2.0)

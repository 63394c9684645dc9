"""A minimal AMQP server for what a RabbitMQ 3.10 cannot be made to do.

It has no transient queues, as RabbitMQ 4.3 and later; it can be told to refuse bodies above a size, to
answer publishes with a nack, or not at all. Queues exist in name only: nothing is ever delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pamqp.frame
from pamqp import base, body, commands, header
from pamqp.common import FieldTable

TRANSIENT_REFUSED = (
    "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated. By default, this feature is not "
    "permitted anymore."
)
Answer = Callable[[int, int], "base.Frame | None"]
"""From the delivery tag and the size of a publish to the frame that answers it."""


def ack(tag: int, _size: int) -> base.Frame | None:
    return commands.Basic.Ack(delivery_tag=tag)


def nack(tag: int, _size: int) -> base.Frame | None:
    return commands.Basic.Nack(delivery_tag=tag)


def silence(_tag: int, _size: int) -> base.Frame | None:
    return None


def limited(limit: int) -> Answer:
    """Refuse bodies above `limit` as RabbitMQ does: by closing the channel."""

    def answer(tag: int, size: int) -> base.Frame | None:
        if size <= limit:
            return commands.Basic.Ack(delivery_tag=tag)
        text = f"PRECONDITION_FAILED - message size {size} is larger than configured max size {limit}"
        return commands.Channel.Close(406, text, 60, 40)

    return answer


@dataclass
class FakeBroker:
    """`answer` decides what becomes of a publish; `declared` records (queue, durable)."""

    answer: Answer = ack
    port: int = 0
    declared: list[tuple[str, bool]] = field(default_factory=list)
    blocks: bool = False

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def send(frame: base.Frame, channel: int) -> None:
            writer.write(pamqp.frame.marshal(frame, channel))

        await reader.readexactly(8)
        capabilities: FieldTable = {
            "publisher_confirms": True,
            "basic.nack": True,
            "connection.blocked": True,
        }
        send(commands.Connection.Start(server_properties={"capabilities": capabilities}), 0)
        tag, size, missing = 0, 0, 0
        while True:
            head = await reader.readexactly(7)
            length = int.from_bytes(head[3:7], "big")
            _, channel, frame = pamqp.frame.unmarshal(head + await reader.readexactly(length + 1))
            match frame:
                case commands.Connection.StartOk():
                    send(commands.Connection.Tune(2047, 131072, 60), 0)
                case commands.Connection.Open():
                    send(commands.Connection.OpenOk(), 0)
                case commands.Channel.Open():
                    send(commands.Channel.OpenOk(), channel)
                case commands.Confirm.Select():
                    send(commands.Confirm.SelectOk(), channel)
                case commands.Queue.Declare(queue=queue, durable=durable):
                    self.declared.append((queue, durable))
                    if durable:
                        send(commands.Queue.DeclareOk(queue, 0, 0), channel)
                    else:
                        send(commands.Connection.Close(541, TRANSIENT_REFUSED, 50, 10), 0)
                case commands.Basic.Publish():
                    tag += 1
                case commands.Channel.Close():
                    send(commands.Channel.CloseOk(), channel)
                case commands.Connection.Close():
                    send(commands.Connection.CloseOk(), 0)
                    await writer.drain()
                    return
                case commands.Connection.CloseOk():
                    return
                case header.ContentHeader(body_size=size):
                    missing = size or 0
                case body.ContentBody(value=piece):
                    missing -= len(piece)
            if isinstance(frame, header.ContentHeader | body.ContentBody) and missing == 0:
                if self.blocks:
                    send(commands.Connection.Blocked("low on memory"), 0)
                elif (said := self.answer(tag, size or 0)) is not None:
                    send(said, channel)
            await writer.drain()


@asynccontextmanager
async def fake_broker(answer: Answer = ack) -> AsyncIterator[FakeBroker]:
    broker = FakeBroker(answer)
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()

"""`send --lines` goes on after a lost connection, and says what may have arrived twice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from msctl.amqp.connection import Connection
from msctl.amqp.consumer import Consumer
from msctl.amqp.queues import declare
from msctl.amqp.url import BrokerUrl
from msctl.cli.messaging import sending
from msctl.cli.messaging.sending import SendRequest, SendResult, send_messages
from msctl.cli.options.message_options import MessageProperties
from msctl.errors import BrokerError
from tests.support.proxy import Proxy, proxy
from tests.support.rabbitmq import unique


@dataclass
class Sending:
    """A `send --lines` that reads from a pipe, through a proxy."""

    between: Proxy
    queue: str
    connection: Connection
    notes: list[str]
    writer: int = -1
    task: asyncio.Task[SendResult] | None = None
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, reader: int, timeout: float = 30.0) -> None:
        request = SendRequest(
            url=f"amqp://guest:guest@127.0.0.1:{self.between.listen_port}/",
            queue=self.queue,
            exchange="",
            key=self.queue,
            properties=MessageProperties(),
            text=None,
            file=None,
            by_line=True,
            count=1,
            rate=None,
            confirm=True,
            timeout=timeout,
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sending, "STDIN", reader)
            self.task = asyncio.create_task(send_messages(request))

    def write(self, *lines: str) -> None:
        os.write(self.writer, "".join(f"{line}\n" for line in lines).encode())

    async def result(self) -> SendResult:
        assert self.task is not None
        return await asyncio.wait_for(self.task, 60)

    async def until_noted(self, text: str) -> None:
        async with asyncio.timeout(60):
            while not any(text in note for note in self.notes):
                await asyncio.sleep(0.01)

    async def received(self, number: int) -> list[str]:
        consumer = await Consumer.open(self.connection, self.queue)
        bodies: list[str] = []
        while len(bodies) < number:
            taken = await consumer.take()
            bodies += [delivery.body.decode() for delivery in taken]
            await consumer.mark_done(len(taken))
        await consumer.finish()
        return bodies


@pytest.fixture
async def send(url: BrokerUrl, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sending]:
    notes: list[str] = []
    monkeypatch.setattr(sending, "note", notes.append)
    connection = await Connection.open(url, name="test")
    name = unique()
    await declare(connection, name, notify=lambda _text: None)
    reader, writer = os.pipe()
    monkeypatch.setattr(sending, "STDIN", reader)
    async with proxy(url.host, url.port) as between:
        yield Sending(between, name, connection, notes, writer)
    os.close(reader)
    channel = await connection.channel()
    await connection.ask(channel.queue_delete(name))
    await connection.close()


def begin(send: Sending, timeout: float = 30.0) -> None:
    send.start(sending.STDIN, timeout)


async def test_lines_go_on_after_a_lost_connection_and_none_is_missing(send: Sending) -> None:
    begin(send)
    send.write("1", "2")
    assert await send.received(2) == ["1", "2"]
    send.between.freeze()  # the broker's confirms do not come through any more
    send.write("3", "4")
    assert await send.received(2) == ["3", "4"]
    await send.between.cut()
    await send.until_noted("retrying")
    send.write("5")
    await send.between.listen()
    os.close(send.writer)
    result = await send.result()
    assert (result.stats.sent, result.stats.confirmed, result.stats.unconfirmed) == (5, 5, ())
    assert result.repeated == (3, 4)
    assert await send.received(3) == ["3", "4", "5"]
    assert any("2 lines were confirmed" in note for note in send.notes)
    assert any("lines 3 to 4" in note for note in send.notes)


async def test_a_queue_that_ended_with_the_broker_is_said(send: Sending) -> None:
    begin(send)
    send.write("1")
    assert await send.received(1) == ["1"]
    await send.between.cut()
    channel = await send.connection.channel()
    await send.connection.ask(channel.queue_delete(send.queue))
    await send.between.listen()
    send.write("2")
    os.close(send.writer)
    assert (await send.result()).stats.confirmed == 2
    assert any("declared again" in note for note in send.notes)


async def test_a_broker_that_stays_away_ends_it_with_the_account(send: Sending) -> None:
    begin(send, timeout=0.5)
    send.write("1")
    assert await send.received(1) == ["1"]
    send.between.freeze()
    send.write("2")
    assert await send.received(1) == ["2"]
    await send.between.cut()
    with pytest.raises(BrokerError) as failed:
        await send.result()
    os.close(send.writer)
    assert "1 line was confirmed" in failed.value.message
    assert "1 line was sent but not confirmed (line 2)" in failed.value.message

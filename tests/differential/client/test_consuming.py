"""`consume` across lost connections, and what it acknowledges while it waits for more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pamqp.commands import Basic

from msctl.amqp.connection import Connection
from msctl.amqp.consumer import Consumer
from msctl.amqp.publisher import Publisher
from msctl.amqp.queues import count, declare
from msctl.amqp.url import BrokerUrl
from msctl.cli.messaging import consuming
from msctl.cli.messaging.consuming import ConsumeRequest, consume_messages
from msctl.cli.options.message_options import Ack, MessageFormat
from msctl.errors import BrokerError
from tests.support.proxy import Proxy, proxy
from tests.support.rabbitmq import unique


class Output:
    """Stands in for standard output and standard error; `until` waits for a text in either."""

    def __init__(self) -> None:
        self.out = b""
        self.notes: list[str] = []
        self.opened = 0
        self._news = asyncio.Event()

    async def write(self, _fd: int, data: bytes) -> None:
        self.out += data
        self._news.set()

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._news.set()

    async def until(self, ready: Any) -> None:
        async with asyncio.timeout(60):
            while not ready():
                self._news.clear()
                await self._news.wait()


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Output:
    made = Output()
    real = Consumer.open

    async def opened(*args: Any, **options: Any) -> Consumer:
        consumer = await real(*args, **options)
        made.opened += 1
        made._news.set()
        return consumer

    monkeypatch.setattr(consuming, "write_all", made.write)
    monkeypatch.setattr(consuming, "note", made.note)
    monkeypatch.setattr(Consumer, "open", opened)
    return made


@pytest.fixture
async def connection(url: BrokerUrl) -> AsyncIterator[Connection]:
    made = await Connection.open(url, name="test")
    yield made
    await made.close()


@pytest.fixture
async def queue(connection: Connection) -> AsyncIterator[str]:
    name = unique()
    await declare(connection, name, notify=lambda _: None)
    yield name
    channel = await connection.channel()
    await connection.ask(channel.queue_delete(name))


async def publish(connection: Connection, queue: str, *bodies: bytes) -> None:
    publisher = await Publisher.open(connection)
    template = publisher.template(Basic.Properties(), exchange="", routing_key=queue)
    for body in bodies:
        await publisher.publish(template, body)
    await publisher.close()


def request(between: Proxy, queue: str, number: int | None = None) -> ConsumeRequest:
    return ConsumeRequest(
        url=f"amqp://guest:guest@127.0.0.1:{between.listen_port}/",
        queue=queue,
        count=number,
        exit_on_empty=False,
        idle_timeout=None,
        ack=Ack.AUTO,
        prefetch=None,
        output=MessageFormat.RAW,
    )


@pytest.fixture
async def between(connection: Connection) -> AsyncIterator[Proxy]:
    url: BrokerUrl = connection.url
    async with proxy(url.host, url.port) as made:
        yield made


async def test_a_lost_broker_is_waited_for_aloud_and_nothing_is_lost(
    output: Output, connection: Connection, queue: str, between: Proxy
) -> None:
    consume = asyncio.create_task(consume_messages(request(between, queue)))
    await publish(connection, queue, b"a")
    await output.until(lambda: output.out == b"a\n")
    await between.cut()
    await output.until(lambda: any("retrying in" in note for note in output.notes))
    await publish(connection, queue, b"b")
    await between.listen()
    await output.until(lambda: output.out.endswith(b"b\n"))
    consume.cancel()
    result = await consume
    assert result.received == output.out.count(b"\n")
    assert output.notes[0] == consuming.WAITING
    assert "was lost; retrying in" in output.notes[1]
    assert output.notes.count(consuming.WAITING) == 1


async def test_a_broker_that_stays_away_ends_it(
    output: Output, queue: str, between: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "RECONNECT_FOR", 0.1)
    consume = asyncio.create_task(consume_messages(request(between, queue)))
    await output.until(lambda: output.opened == 1)
    await between.cut()
    with pytest.raises(BrokerError, match="connection refused"):
        await consume


async def test_what_a_limit_holds_back_is_acknowledged_when_it_gets_quiet(
    output: Output, connection: Connection, queue: str, between: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "SETTLE_AFTER", 0.05)
    consume = asyncio.create_task(consume_messages(request(between, queue, 4)))
    await publish(connection, queue, b"a", b"b")
    await output.until(lambda: output.out == b"a\nb\n" and output.opened >= 2)
    await between.cut()  # as a crash would: nothing can be acknowledged any more
    await between.listen()
    await publish(connection, queue, b"c", b"d", b"e")
    assert (await consume).received == 4
    assert output.out == b"a\nb\nc\nd\n"
    assert (await count(connection, queue)).ready == 1

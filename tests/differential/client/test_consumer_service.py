"""The consumer logs each message once, in order, and the queue is empty afterwards."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp.test_utils import TestServer
from pamqp.commands import Basic

from msctl.amqp.connection import Connection
from msctl.amqp.publisher import Publisher
from msctl.amqp.queues import count, open_with_queue
from msctl.amqp.url import BrokerUrl
from msctl.model.service_context import ServiceContext
from msctl.services import consumer
from tests.support.rabbitmq import unique


class Heard(logging.Handler):
    """Records what was logged, and wakes who waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._news = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self._news.set()

    async def until(self, text: str) -> None:
        async with asyncio.timeout(60):
            while text not in self.lines:
                self._news.clear()
                await self._news.wait()


async def test_messages_are_logged_in_order_and_acknowledged(
    url: BrokerUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = unique()
    monkeypatch.setattr(consumer, "QUEUE", queue)
    heard = Heard()
    logger = logging.getLogger("msctl.services.consumer")
    logger.addHandler(heard)
    monkeypatch.setattr(logger, "level", logging.INFO)
    connection: Connection = await open_with_queue(url, queue, name="test", notify=lambda _: None)
    publisher = await Publisher.open(connection)
    template = publisher.template(Basic.Properties(), exchange="", routing_key=queue)
    for body in (b"Hello World!", b"\xff\n", b"last"):
        await publisher.publish(template, body)
    app = consumer.create_app(ServiceContext("consumer", "consumer-1", "127.0.0.1", None, url.text, {}))
    async with TestServer(app):
        await heard.until("Received a message: last")
    logger.removeHandler(heard)
    received = [line for line in heard.lines if line.startswith("Received")]
    assert received == [
        "Received a message: Hello World!",
        "Received a message: \\xff\n",
        "Received a message: last",
    ]
    assert (await count(connection, queue)).ready == 0
    await publisher.close()
    await connection.close()

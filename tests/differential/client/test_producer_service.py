"""The producer answers 202 for what the broker has, and 503 for what it has not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from msctl.amqp.connection import Connection
from msctl.amqp.consumer import Consumer
from msctl.amqp.url import BrokerUrl
from msctl.model.service_context import ServiceContext
from msctl.services import producer
from tests.support.ports import reserved_port
from tests.support.rabbitmq import unique

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> str:
    name = unique()
    monkeypatch.setattr(producer, "QUEUE", name)
    return name


def context(url: str) -> ServiceContext:
    return ServiceContext("producer", "producer-1", "127.0.0.1", None, url, {})


@pytest.fixture
async def connected(url: BrokerUrl, queue: str) -> AsyncIterator[Client]:
    async with TestClient(TestServer(producer.create_app(context(url.text)))) as client:
        yield client


async def post(
    client: Client,
    body: bytes,
    content_type: str | None = None,
) -> aiohttp.ClientResponse:
    """Post until the service has found its broker."""
    headers = {"Content-Type": content_type} if content_type else {}
    async with asyncio.timeout(60):
        while True:
            answer = await client.post("/messages", data=body, headers=headers)
            if answer.status != 503:
                return answer
            await asyncio.sleep(0.02)


async def test_a_posted_message_is_in_the_queue_when_202_is_answered(
    connected: Client, url: BrokerUrl, queue: str
) -> None:
    answer = await post(connected, b"Hello \xff", "application/x-thing")
    assert answer.status == 202
    assert await answer.json() == {"status": "confirmed", "queue": queue}
    connection = await Connection.open(url, name="test")
    consumer = await Consumer.open(connection, queue)
    (delivery,) = await consumer.take()
    assert (delivery.body, delivery.properties.content_type) == (b"Hello \xff", "application/x-thing")
    await consumer.mark_done(1)
    await consumer.finish()
    await connection.close()


async def test_without_a_broker_it_starts_answers_503_and_logs_what_it_waits_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with reserved_port() as port:
        app = producer.create_app(context(f"amqp://guest:hunter2@127.0.0.1:{port}/"))
        async with TestClient(TestServer(app)) as client:
            answer = await client.post("/messages", data=b"x")
            problem = await answer.json(content_type="application/problem+json")
    assert (answer.status, problem["status"]) == (503, 503)
    assert answer.headers["Retry-After"] == "2"
    assert "127.0.0.1" in problem["detail"]
    assert "retrying in" in caplog.text or "still connecting" in caplog.text
    assert "hunter2" not in caplog.text + problem["detail"]


async def test_a_body_over_the_limit_is_413(monkeypatch: pytest.MonkeyPatch, url: BrokerUrl) -> None:
    monkeypatch.setattr(producer, "MAX_BODY", 10)
    async with TestClient(TestServer(producer.create_app(context(url.text)))) as client:
        answer = await client.post("/messages", data=b"x" * 11)
        problem = await answer.json(content_type="application/problem+json")
    assert (answer.status, problem["detail"]) == (413, "a message may have at most 10 bytes")


async def test_a_content_type_too_long_for_amqp_is_the_clients_fault(
    connected: Client,
) -> None:
    answer = await post(connected, b"x", "text/" + "x" * 300)
    assert answer.status == 400

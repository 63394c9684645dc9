"""What the page does to a broker and shows of it: over a real RabbitMQ and the embedded broker alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from msctl.amqp.connection import Connection
from msctl.amqp.methods import BasicConsume
from msctl.amqp.queue_admin import QueueAdmin
from msctl.amqp.url import parse_url
from msctl.broker.management.vhost_documents import vhost_documents
from msctl.broker.server import BrokerServer
from msctl.clock import SystemClock
from msctl.errors import BrokerError, UsageError
from msctl.model.messaging import (
    Bind,
    Binding,
    ChangeResult,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    Messaging,
    MoveMessages,
    OutgoingMessage,
    PurgeQueue,
    RequeueDead,
    Unbind,
)
from tests.support.broker import Broker
from tests.support.rabbitmq import unique

PATIENCE = 60.0


@pytest.fixture
def admin(broker: Broker) -> QueueAdmin:
    return QueueAdmin(lambda: broker.url, management=lambda: broker.management)


async def shown(admin: QueueAdmin, name: str, ready: int) -> Messaging:
    """What has the name, once the queue of that name shows so many messages: RabbitMQ counts now and then."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = await admin.messaging(name)
        if [queue.ready for queue in found.queues if queue.name == name] == [ready]:
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


async def test_declared_bound_published_moved_and_deleted(admin: QueueAdmin) -> None:
    name = f"é {unique()}"
    exchange, other = f"{name}.x", f"{name}.other"
    await admin.change(DeclareQueue(name, durable=True, arguments={"x-max-length": 100}))
    await admin.change(DeclareQueue(other, durable=True))
    await admin.change(DeclareExchange(exchange, "topic"))
    await admin.change(Bind(exchange, name, "order.*"))
    await admin.change(Bind("amq.topic", exchange, "#", to_exchange=True))
    try:
        message = OutgoingMessage(
            "amq.topic", "order.new", b"tea", headers={"n": 1}, properties={"delivery_mode": 2, "priority": 3}
        )
        await admin.publish(message)
        found = await shown(admin, name, 1)
        queue = next(one for one in found.queues if one.name == name)
        assert (queue.durable, queue.arguments["x-max-length"], queue.exclusive) == (True, 100, False)
        assert [one.type for one in found.exchanges if one.name == exchange] == ["topic"]
        assert Binding(exchange, name, False, "order.*", {}) in found.bindings
        assert Binding("amq.topic", exchange, True, "#", {}) in found.bindings
        assert await admin.change(MoveMessages(name, other)) == ChangeResult(1)
        assert await admin.change(PurgeQueue(other)) == ChangeResult(1)
        await admin.change(Unbind("amq.topic", exchange, "#", to_exchange=True))
        with pytest.raises(BrokerError):
            await admin.publish(message)
    finally:
        for queue_name in (name, other):
            await admin.change(DeleteQueue(queue_name))
        await admin.change(DeleteExchange(exchange))


async def test_dead_letters_are_requeued(admin: QueueAdmin) -> None:
    name = unique()
    dead = f"{name}.dead"
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    await admin.change(DeclareQueue(dead, durable=True))
    await admin.change(DeclareQueue(name, durable=True, arguments=arguments))
    try:
        await admin.publish(OutgoingMessage("", name, b"1", properties={"expiration": "1"}))
        await shown(admin, dead, 1)
        await admin.publish(OutgoingMessage("", dead, b"no dead letter"))
        assert await admin.change(RequeueDead(dead)) == ChangeResult(1, left=1)
    finally:
        await admin.change(DeleteQueue(name))
        await admin.change(DeleteQueue(dead))


async def test_what_a_broker_refuses_or_nobody_can_mean_is_said(admin: QueueAdmin) -> None:
    with pytest.raises(BrokerError, match="amq"):
        await admin.change(DeclareExchange(f"amq.{unique()}", "direct"))
    with pytest.raises(BrokerError):
        await admin.change(Bind(unique(), unique()))
    with pytest.raises(UsageError, match="no name"):
        await admin.change(DeclareQueue(""))
    with pytest.raises(UsageError, match="colour"):
        await admin.publish(OutgoingMessage("amq.topic", "k", b"", properties={"colour": "red"}))
    with pytest.raises(UsageError):
        await admin.publish(OutgoingMessage("amq.topic", "k", b"", properties={"priority": "high"}))


async def test_a_broker_without_a_management_api_says_so(broker: Broker) -> None:
    admin = QueueAdmin(lambda: broker.url, management=lambda: "http://127.0.0.1:1")
    with pytest.raises(BrokerError, match="no management API answers"):
        await admin.messaging()


@pytest.fixture
async def embedded() -> AsyncIterator[tuple[BrokerServer, str]]:
    server = BrokerServer(clock=SystemClock(asyncio.sleep), log=lambda *_: None, vhosts=("/",))
    host, port = await server.start("127.0.0.1", 0)
    yield server, f"amqp://guest:guest@{host}:{port}/"
    await server.stop()


async def test_the_embedded_broker_is_read_without_its_management_api(
    embedded: tuple[BrokerServer, str],
) -> None:
    server, url = embedded
    clock = SystemClock(asyncio.sleep)
    admin = QueueAdmin(lambda: url, documents=lambda find: vhost_documents(server, "/", find, clock))
    for number in range(3):
        await admin.change(DeclareQueue(f"jobs {number}"))
    await admin.change(DeclareQueue("other"))
    connection = await Connection.open(parse_url(url), name="the worker")
    try:
        channel = await connection.channel()
        await connection.ask(channel.basic_qos(prefetch_count=5))
        await connection.ask(channel.rpc(BasicConsume(queue="jobs 1")))
        found = await admin.messaging("JOBS")
        assert [queue.name for queue in found.queues] == ["jobs 0", "jobs 1", "jobs 2"]
        assert [(one.queue, one.prefetch) for one in found.consumers] == [("jobs 1", 5)]
        everything = await admin.messaging()
        assert [one.client for one in everything.connections] == ["the worker"]
        assert [(one.consumers, one.connection) for one in everything.channels] == [
            (1, everything.connections[0].name)
        ]
        assert everything.totals["queues"] == 4
        assert "amq.topic" in {one.name for one in everything.exchanges}
    finally:
        await connection.close()

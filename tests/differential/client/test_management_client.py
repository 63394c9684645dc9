"""Queues and bindings as the management API of either broker has them."""

from __future__ import annotations

import asyncio
import time

import pytest

from msctl.amqp import queue_changes
from msctl.amqp.connection import Connection
from msctl.amqp.management_client import ManagementClient
from msctl.amqp.url import parse_url
from msctl.errors import BrokerError
from msctl.model.queue_messages import QueueBinding
from msctl.secret import Secret
from tests.support.broker import Broker
from tests.support.rabbitmq import unique

PATIENCE = 60.0


async def test_queues_and_bindings_are_read(broker: Broker, connection: Connection) -> None:
    client = ManagementClient(broker.management, parse_url(broker.url))
    name = f"a/b {unique()}"
    bound = [("amq.topic", "orders.*")]
    await queue_changes.declare(connection, name, durable=False, arguments={}, bindings=bound)
    try:
        bindings = await asyncio.to_thread(client.bindings, name)
        assert QueueBinding(name, "amq.topic", "orders.*") in bindings
        assert QueueBinding(name, "", name) in bindings
        everything = await asyncio.to_thread(client.bindings, None)
        assert all(one in everything for one in bindings)
        # RabbitMQ counts from time to time.
        deadline = time.monotonic() + PATIENCE
        while name not in {queue.name for queue in await asyncio.to_thread(client.queues)}:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    finally:
        await queue_changes.delete(connection, name)


async def test_errors_name_the_api_and_never_the_password(broker: Broker) -> None:
    url = parse_url(broker.url).changed(password=Secret("wrong-secret"))
    for base, why in ((broker.management, "401"), ("http://127.0.0.1:1", "no management API")):
        with pytest.raises(BrokerError, match=why) as failed:
            await asyncio.to_thread(ManagementClient(base, url).queues)
        assert "wrong-secret" not in str(failed.value)
        assert base in failed.value.message

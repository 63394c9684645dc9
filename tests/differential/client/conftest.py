"""Either broker, a queue of one's own, and a check that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from msctl.amqp.connection import Connection
from msctl.amqp.queues import declare
from msctl.amqp.url import BrokerUrl, parse_url
from tests.support.broker import Broker
from tests.support.garbage import collect_from_here
from tests.support.rabbitmq import unique


@pytest.fixture(autouse=True)
async def nothing_left_behind() -> AsyncIterator[None]:
    """No task outlives a test, and no exception goes unretrieved."""
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    before = asyncio.all_tasks()
    collect_from_here()
    yield
    for _ in range(100):
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            break
        await asyncio.sleep(0.01)
    gc.collect()
    await asyncio.sleep(0)
    assert not left
    assert not complaints


@pytest.fixture
def url(broker: Broker) -> BrokerUrl:
    return parse_url(broker.url)


@pytest.fixture
async def connection(url: BrokerUrl) -> AsyncIterator[Connection]:
    made = await Connection.open(url, name="test")
    yield made
    await made.close()


@pytest.fixture
async def queue(url: BrokerUrl) -> AsyncIterator[str]:
    """A queue that nobody else has, empty."""
    name = unique()
    helper = await Connection.open(url, name="fixture")
    await declare(helper, name, notify=lambda _: None)
    yield name
    channel = await helper.channel()
    await helper.ask(channel.queue_delete(name))
    await helper.close()

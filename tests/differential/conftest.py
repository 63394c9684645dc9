"""Every test here runs twice: against a real RabbitMQ, which is right by definition, and against ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from msctl.broker.management.server import ManagementServer
from msctl.broker.server import BrokerServer
from msctl.broker.storage.storage import StorageSpec
from msctl.clock import SystemClock
from tests.support.amqp_probe import Channel, Probe
from tests.support.broker import Broker, Connect
from tests.support.operator import EmbeddedOperator, ManagementOperator
from tests.support.rabbitmq import RunningNode


@pytest.fixture(params=[pytest.param("rabbitmq", marks=pytest.mark.rabbitmq), "embedded"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    if request.param == "rabbitmq":
        node: RunningNode = request.getfixturevalue("rabbitmq_node")
        yield Broker("rabbitmq", node.url, ManagementOperator(node.management), node.management)
        return
    errors: list[str] = []

    def log(level: str, text: str) -> None:
        if level in ("error", "critical"):
            errors.append(text)

    storage = StorageSpec(tmp_path / "state" / "project" / "broker")

    def make() -> BrokerServer:
        return BrokerServer(clock=SystemClock(asyncio.sleep), log=log, vhosts=("/",), storage=storage)

    server = make()
    server.management = management = ManagementServer(server, clock=SystemClock(asyncio.sleep), port=0)
    host, port = await server.start("127.0.0.1", 0)
    url = f"amqp://guest:guest@{host}:{port}/"
    yield Broker("embedded", url, EmbeddedOperator(server), (management.url or "").rstrip("/"))
    await check_nothing_is_held(server)
    await server.stop()
    await check_log(make())
    assert errors == []


async def check_log(server: BrokerServer) -> None:
    """What a test has left in the log is what the next broker serves, message by message."""
    await server.start("127.0.0.1", 0)
    figures = server.stats()
    assert figures.storage is not None
    assert figures.storage.messages == figures.messages
    assert sum(queue.ready for queue in await server.queues()) == figures.messages
    await server.stop()


async def check_nothing_is_held(server: BrokerServer) -> None:
    """With all clients gone, no channel is left, nothing is unacked, and the accounts add up."""
    async with asyncio.timeout(60):
        while (figures := server.stats()).connections or (figures.memory_bytes and not figures.messages):
            await asyncio.sleep(0.01)
    assert figures.channels == 0
    queues = await server.queues()
    assert sum(queue.unacked for queue in queues) == 0
    assert sum(queue.ready for queue in queues) == figures.messages
    assert figures.messages or not figures.memory_bytes


@pytest.fixture
async def connect(broker: Broker) -> AsyncIterator[Connect]:
    opened: list[Probe] = []

    async def connect(**options: object) -> Probe:
        probe = await Probe.connect(broker.url, **options)  # type: ignore[arg-type]  # passed on as they are
        opened.append(probe)
        return probe

    yield connect
    for probe in opened:
        await probe.close()


@pytest.fixture
async def connection(connect: Connect) -> Probe:
    return await connect()


@pytest.fixture
async def channel(connection: Probe) -> Channel:
    return await connection.channel()

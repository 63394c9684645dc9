"""Every test here runs twice: against a real RabbitMQ, which is right by definition, and against ours."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator

import pytest

from msctl.clock import SystemClock
from tests.support.amqp_probe import Channel, Probe
from tests.support.broker import Broker, Connect


@pytest.fixture(params=[pytest.param("rabbitmq", marks=pytest.mark.rabbitmq), "embedded"])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    if request.param == "rabbitmq":
        yield Broker("rabbitmq", request.getfixturevalue("rabbitmq"))
        return
    try:
        server_module = importlib.import_module("msctl.broker.server")
    except ModuleNotFoundError:
        pytest.skip("the embedded broker is not here yet")
    server = server_module.BrokerServer(
        clock=SystemClock(asyncio.sleep),
        log=lambda level, text: None,
        users={"guest": "guest"},
        vhosts=("/",),
    )
    host, port = await server.start("127.0.0.1", 0)
    yield Broker("embedded", f"amqp://guest:guest@{host}:{port}/")
    await server.stop()


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

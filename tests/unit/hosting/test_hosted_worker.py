"""A hosted application has a time to start in, as a command has."""

from __future__ import annotations

import asyncio

import pytest

from msctl.hosting.hosted_worker import HostedWorker
from msctl.model.exchange import Exchange
from msctl.model.service_context import ServiceContext
from msctl.model.worker import StartError
from msctl.telemetry.logs.hub import LogHub
from tests.support.clock import FakeClock, settle


class Hanging:
    """An application that never has started."""

    cleaned = False

    async def startup(self) -> None:
        await asyncio.Event().wait()

    async def handle(self, exchange: Exchange) -> None: ...

    async def drain(self, timeout: float) -> None: ...

    async def cleanup(self) -> None:
        self.cleaned = True


async def test_application_that_does_not_start_in_time_is_given_up() -> None:
    clock, app = FakeClock(), Hanging()
    context = ServiceContext(
        name="api", instance="api-1", host="127.0.0.1", port=None, amqp_url="amqp://x/", env={}
    )
    worker = HostedWorker(
        lambda _: app,
        context,
        listener=None,
        prefixes=lambda: (),
        logs=LogHub(clock),
        clock=clock,
        start_timeout=5.0,
    )
    starting = asyncio.create_task(worker.start())
    await settle()
    await clock.advance(4.9)
    assert not starting.done()
    await clock.advance(0.2)
    with pytest.raises(StartError) as raised:
        await starting
    assert "5 s" in raised.value.outcome.reason
    assert not raised.value.outcome.final
    assert app.cleaned
    assert worker.endpoint is None

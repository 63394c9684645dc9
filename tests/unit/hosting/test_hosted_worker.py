"""A hosted application has a time to start in, as a command has."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import replace

import pytest

from msctl.hosting.hosted_worker import HostedWorker
from msctl.model.exchange import Exchange
from msctl.model.service_context import ServiceContext
from msctl.model.worker import StartError
from msctl.telemetry.logs.frames import service_of
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


CONTEXT = ServiceContext(
    name="api", instance="api-1", host="127.0.0.1", port=None, amqp_url="amqp://x/", env={}
)


async def test_code_that_makes_an_application_works_for_its_service() -> None:
    """So that the loop monitor names the service whose factory blocks."""
    found = []

    def factory(_context: ServiceContext) -> Hanging:
        frame = inspect.currentframe()
        while frame is not None:
            found.append(service_of(frame))
            frame = frame.f_back
        raise ValueError("enough")

    worker = HostedWorker(
        factory, CONTEXT, listener=None, prefixes=lambda: (), logs=LogHub(FakeClock()), clock=FakeClock()
    )
    with pytest.raises(StartError):
        await worker.start()
    assert "api" in found


async def test_variable_that_an_application_misses_in_os_environ_is_explained() -> None:
    def factory(_context: ServiceContext) -> Hanging:
        raise KeyError("SHOP_DB")

    context = replace(CONTEXT, env={"SHOP_DB": "secret", "SHOP": "x", "PATH": "/bin"})
    worker = HostedWorker(
        factory, context, listener=None, prefixes=lambda: (), logs=LogHub(FakeClock()), clock=FakeClock()
    )
    with pytest.raises(StartError) as raised:
        await worker.start()
    reason = raised.value.outcome.reason
    assert "SHOP_DB is not in os.environ" in reason
    assert "secret" not in reason


async def test_application_that_does_not_start_in_time_is_given_up() -> None:
    clock, app = FakeClock(), Hanging()
    worker = HostedWorker(
        lambda _: app,
        CONTEXT,
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

"""The brokers that the differential tests compare: which one, where, and how to connect to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from msctl.broker.server import BrokerServer
from msctl.clock import SystemClock
from tests.support.amqp_probe import Probe
from tests.support.operator import Operator


@dataclass(frozen=True)
class Broker:
    """A running AMQP server; `name` is "rabbitmq" or "embedded", `management` the URL of its HTTP API."""

    name: str
    url: str
    operator: Operator
    management: str = ""


Connect = Callable[..., Awaitable[Probe]]
"""`await connect(**options)`: a new connection (see Probe.connect) that the fixture closes afterwards."""


@contextmanager
def running_embedded() -> Iterator[str]:
    """The embedded broker in a thread while the block runs; yields its AMQP URL."""
    loop = asyncio.new_event_loop()
    server = BrokerServer(clock=SystemClock(asyncio.sleep), log=lambda *_: None, vhosts=("/",))
    thread = threading.Thread(target=loop.run_forever, name="embedded-broker", daemon=True)
    thread.start()
    try:
        host, port = asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0), loop).result(10)
        yield f"amqp://guest:guest@{host}:{port}/"
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()

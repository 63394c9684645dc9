"""The brokers that the differential tests compare: which one, where, and how to connect to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.support.amqp_probe import Probe


@dataclass(frozen=True)
class Broker:
    """A running AMQP server; `name` is "rabbitmq" or "embedded"."""

    name: str
    url: str


Connect = Callable[..., Awaitable[Probe]]
"""`await connect(**options)`: a new connection (see Probe.connect) that the fixture closes afterwards."""

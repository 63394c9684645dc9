"""An AMQP 0-9-1 client on aio-pika: connect, declare, publish with confirms, consume.

The public names are the reconnecting publisher and consumer and what they take and raise:

    from msctl.amqp import Delivery, QueueEndpoint, ReconnectingConsumer, parse_url, running

    async def handle(delivery: Delivery) -> None:
        print(delivery.body)

    endpoint = QueueEndpoint(parse_url(url), "hello", name="shop", notify=print)
    async with running(ReconnectingConsumer(endpoint, handle)):
        ...

`QueueEndpoint` names a queue of a broker. `ReconnectingPublisher.publish` returns after the broker's
confirm and raises BrokerAwayError while there is no connection. `ReconnectingConsumer` acknowledges a
message after its handler has returned and requeues it if the handler raises. `running` keeps either
connected during a block. The names are loaded on first use, so that importing the package is cheap.

Connections are plain ones, never aio-pika's robust ones, which retry some failures for ever in silence.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msctl.amqp.delivery import Delivery
    from msctl.amqp.errors import BrokerAwayError, BrokerRefusedError
    from msctl.amqp.reconnecting import QueueEndpoint, ReconnectingConsumer, ReconnectingPublisher, running
    from msctl.amqp.url import BrokerUrl, parse_url

__all__ = [
    "BrokerAwayError",
    "BrokerRefusedError",
    "BrokerUrl",
    "Delivery",
    "QueueEndpoint",
    "ReconnectingConsumer",
    "ReconnectingPublisher",
    "parse_url",
    "running",
]

_MODULES = {
    "BrokerAwayError": "errors",
    "BrokerRefusedError": "errors",
    "BrokerUrl": "url",
    "Delivery": "delivery",
    "parse_url": "url",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'reconnecting')}"), name)

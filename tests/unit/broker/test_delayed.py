"""Exchanges of type x-delayed-message: when messages are routed, by a clock that the test moves.

Debian has no package of RabbitMQ's plugin, so its rules are stated here from its sources.
"""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands, header

from tests.support.clock import FakeClock
from tests.unit.broker.client import Client, make_broker


class Delays:
    """A client with a delaying exchange `later`, and queue `q` bound to it by the key `q`."""

    def __init__(self, kind: str = "direct", key: str = "q") -> None:
        self.clock = FakeClock()
        self.broker = make_broker(self.clock)
        self.client = Client(self.broker)
        self.client.open()
        self.client.queue()
        self.declare({"x-delayed-type": kind})
        self.client.call(commands.Queue.Bind(0, "q", "later", key), commands.Queue.BindOk)
        self.client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)

    def declare(self, arguments: dict[str, Any]) -> None:
        method = commands.Exchange.Declare(
            exchange="later", exchange_type="x-delayed-message", arguments=arguments
        )
        self.client.call(method, commands.Exchange.DeclareOk)

    def publish(
        self, delay: object = None, body: bytes = b"1", *, mandatory: bool = False, mine: str = ""
    ) -> None:
        headers = ({} if delay is None else {"x-delay": delay}) | ({"mine": mine} if mine else {})
        self.client.publish(body, exchange="later", mandatory=mandatory, headers=headers)

    def pass_time(self, seconds: float) -> None:
        self.clock.set(self.clock.monotonic() + seconds)
        while (due := self.broker.next_reminder()) is not None and due <= self.clock.monotonic():
            self.broker.tick()

    @property
    def ready(self) -> list[bytes]:
        queue = self.broker.vhosts["/"].queues["q"]
        return [message[2] for message, _ in queue.ready.waiting()]


def test_message_is_confirmed_at_once_and_routed_after_its_delay() -> None:
    delays = Delays()
    delays.publish(1000)
    assert delays.client.take(commands.Basic.Ack).delivery_tag == 1
    delays.pass_time(0.999)
    assert delays.ready == []
    delays.pass_time(0.001)
    assert delays.ready == [b"1"]


def test_messages_are_routed_in_the_order_in_which_they_are_due() -> None:
    delays = Delays()
    for body, delay in ((b"last", 3000), (b"first", 1000), (b"second", 2000), (b"third", 2000)):
        delays.publish(delay, body)
    delays.pass_time(5)
    assert delays.ready == [b"first", b"second", b"third", b"last"]


@pytest.mark.parametrize("delay", [None, 0, -5, "soon", 2**32])
def test_message_without_a_positive_delay_is_routed_at_once(delay: object) -> None:
    delays = Delays()
    delays.publish(delay)
    assert delays.ready == [b"1"]


@pytest.mark.parametrize("delay", [1500, "1500", 1500.9])
def test_delay_may_be_text_or_a_fraction(delay: object) -> None:
    delays = Delays()
    delays.publish(delay)
    delays.pass_time(1.499)
    assert delays.ready == []
    delays.pass_time(0.002)
    assert delays.ready == [b"1"]


def test_delivered_header_is_negative_so_that_the_next_exchange_does_not_delay_again() -> None:
    delays = Delays()
    delays.publish(1000, mine="kept")
    delays.pass_time(1)
    delays.client.call(commands.Basic.Consume(0, "q", "t"), commands.Basic.ConsumeOk)
    delays.client.run()
    (headers,) = [
        event.properties.headers
        for _, event in delays.client.events
        if isinstance(event, header.ContentHeader)
    ]
    assert headers == {"x-delay": -1000, "mine": "kept"}


def test_mandatory_message_that_is_delayed_is_returned_and_still_routed() -> None:
    delays = Delays()
    delays.publish(1000, mandatory=True)
    assert delays.client.take(commands.Basic.Return).reply_code == 312
    delays.client.take(commands.Basic.Ack)
    delays.pass_time(1)
    assert delays.ready == [b"1"]


def test_binding_is_looked_up_when_the_delay_is_over() -> None:
    delays = Delays()
    delays.publish(1000)
    delays.client.call(commands.Queue.Unbind(0, "q", "later", "q"), commands.Queue.UnbindOk)
    delays.pass_time(1)
    assert delays.ready == []
    assert delays.broker.memory.used == 0


def test_message_of_a_deleted_exchange_is_dropped() -> None:
    delays = Delays()
    delays.publish(1000)
    delays.client.call(commands.Exchange.Delete(0, "later"), commands.Exchange.DeleteOk)
    delays.pass_time(1)
    assert (delays.ready, delays.broker.memory.used) == ([], 0)


def test_delayed_messages_count_as_memory() -> None:
    delays = Delays()
    delays.publish(1000, b"x" * 1000)
    exchange = delays.broker.vhosts["/"].routing.exchanges["later"]
    assert (delays.broker.memory.used > 1000, exchange.delayed) == (True, 1)
    delays.pass_time(1)
    assert exchange.delayed == 0


@pytest.mark.parametrize(("kind", "key"), [("fanout", ""), ("topic", "#"), ("x-consistent-hash", "1")])
def test_it_routes_as_its_delayed_type_says(kind: str, key: str) -> None:
    delays = Delays(kind, key)
    delays.publish(10)
    delays.publish(None, b"2")
    delays.pass_time(1)
    assert delays.ready == [b"2", b"1"]


def test_exchange_behind_another_one_delays_too() -> None:
    delays = Delays()
    delays.client.call(commands.Exchange.Declare(exchange="front"), commands.Exchange.DeclareOk)
    delays.client.call(commands.Exchange.Bind(0, "later", "front", "q"), commands.Exchange.BindOk)
    delays.client.publish(b"1", exchange="front", headers={"x-delay": 1000})
    assert delays.ready == []
    delays.pass_time(1)
    assert delays.ready == [b"1"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, 406),
        ({"x-delayed-type": 1}, 406),
        ({"x-delayed-type": "x-delayed-message"}, 406),
        ({"x-delayed-type": "odd"}, 503),
        ({"x-delayed-type": "x-consistent-hash", "hash-property": "body"}, 406),
    ],
)
def test_delayed_type_must_exist(arguments: dict[str, Any], code: int) -> None:
    client = Client(make_broker())
    client.open()
    client.send(
        commands.Exchange.Declare(exchange="later", exchange_type="x-delayed-message", arguments=arguments)
    )
    (event,) = [event for _, event in client.events]
    assert event.reply_code == code

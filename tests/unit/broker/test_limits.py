"""Limits of connections, channels, consumers, queues, exchanges and bindings, with RabbitMQ's answers."""

from __future__ import annotations

import asyncio

import pytest
from pamqp import commands

from msctl.broker.core.limits import BrokerLimits
from msctl.broker.server import BrokerServer
from msctl.broker.turns import HANDSHAKES
from msctl.clock import SystemClock
from tests.support.waiting import until
from tests.unit.broker.client import Client, make_broker
from tests.unit.broker.raw import Raw


def closed_with(client: Client, channel: int = 1) -> tuple[int, str]:
    """Code and text of the close that the client got on its channel, or 0 for the connection."""
    close: commands.Connection.Close | commands.Channel.Close
    if channel == 0:
        close = client.take(commands.Connection.Close, 0)
    else:
        close = client.take(commands.Channel.Close, channel)
    return close.reply_code or 0, close.reply_text or ""


def test_connection_beyond_the_limit_is_not_allowed() -> None:
    broker = make_broker(limits=BrokerLimits(connections=2))
    clients = [Client(broker) for _ in range(2)]
    late = Client(broker, handshake=False)
    with pytest.raises(AssertionError):
        late.handshake()
    assert closed_with(late, 0) == (
        530,
        "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (2) is reached",
    )
    clients[0].session.lost()
    Client(broker)


def test_channel_beyond_the_limit_of_the_broker_closes_its_connection() -> None:
    broker = make_broker(limits=BrokerLimits(channels=3))
    first, second = Client(broker), Client(broker)
    first.open(1)
    first.open(2)
    second.open(1)
    second.send(commands.Channel.Open(), 2)
    code, text = closed_with(second, 0)
    assert code == 530
    assert text.endswith("has reached the maximum allowed limit of (3)")
    second.session.lost()
    first.call(commands.Channel.Close(200, "", 0, 0), commands.Channel.CloseOk, 2)
    assert broker.channels == 1
    first.open(2)
    first.open(3)
    first.session.lost()
    assert broker.channels == 0


def test_consumer_beyond_the_limit_of_its_channel_is_not_allowed() -> None:
    client = Client(make_broker(limits=BrokerLimits(consumers_per_channel=2)))
    client.open()
    client.queue()
    client.consume(tag="a")
    client.consume(tag="b")
    client.send(commands.Basic.Consume(queue="q", consumer_tag="c"))
    assert closed_with(client, 0) == (530, "NOT_ALLOWED - reached maximum (2) of consumers per channel")


def test_queue_beyond_the_limit_is_a_failed_precondition() -> None:
    client = Client(make_broker(limits=BrokerLimits(queues=2)))
    client.open()
    client.queue("a")
    client.queue("b")
    client.queue("a")
    client.send(commands.Queue.Declare(queue="c"))
    assert closed_with(client) == (
        406,
        "PRECONDITION_FAILED - cannot declare queue 'c': queue limit in vhost '/' (2) is reached",
    )
    client.send(commands.Channel.CloseOk())
    client.open()
    client.call(commands.Queue.Delete(queue="a"), commands.Queue.DeleteOk)
    client.queue("c")


def test_exchange_beyond_the_limit_is_a_failed_precondition() -> None:
    built_in = len(make_broker().vhosts["/"].routing.exchanges)
    client = Client(make_broker(limits=BrokerLimits(exchanges=built_in + 1)))
    client.open()
    client.call(commands.Exchange.Declare(exchange="a"), commands.Exchange.DeclareOk)
    client.send(commands.Exchange.Declare(exchange="b"))
    code, text = closed_with(client)
    assert code == 406
    assert "cannot declare exchange 'b' in vhost '/': exchange limit of" in text


def test_binding_beyond_the_limit_is_a_failed_precondition() -> None:
    broker = make_broker(limits=BrokerLimits(bindings=2))
    client = Client(broker)
    client.open()
    client.queue()

    def bind(key: str) -> commands.Queue.Bind:
        return commands.Queue.Bind(queue="q", exchange="amq.topic", routing_key=key)

    client.call(bind("a"), commands.Queue.BindOk)
    client.call(bind("b"), commands.Queue.BindOk)
    client.call(bind("a"), commands.Queue.BindOk)
    client.send(bind("c"))
    code, text = closed_with(client)
    assert code == 406
    assert "binding limit of 2 is reached" in text
    client.send(commands.Channel.CloseOk())
    client.open()
    client.call(commands.Queue.Delete(queue="q"), commands.Queue.DeleteOk)
    assert broker.vhosts["/"].routing.bindings.count == 0


async def test_sockets_far_beyond_the_limit_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msctl.broker.turns.HANDSHAKES", 1)
    assert HANDSHAKES > 1
    limits = BrokerLimits(connections=1)
    server = BrokerServer(clock=SystemClock(), log=lambda _level, _text: None, limits=limits)
    host, port = await server.start("127.0.0.1", 0)
    url = f"amqp://guest:guest@{host}:{port}/"
    peers = [await Raw.dial(url) for _ in range(2)]
    await until(lambda: server.stats().connections == 2)
    refused = await Raw.dial(url)
    async with asyncio.timeout(60):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await refused.read()
    for peer in (*peers, refused):
        await peer.close()
    await server.stop(timeout=1.0)

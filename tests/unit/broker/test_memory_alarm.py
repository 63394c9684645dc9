"""The memory alarm: what counts, and that it ends when the peers that cause it are gone."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import uvloop
from pamqp import commands

from msctl.broker.core.broker import Alarm
from msctl.broker.core.messages import MESSAGE_COST
from msctl.broker.server import BrokerServer
from msctl.broker.session import session as session_module
from msctl.clock import SystemClock
from tests.support.waiting import until
from tests.unit.broker.client import Client, make_broker
from tests.unit.broker.raw import Raw

MIB = 1024 * 1024
LIMIT = 4 * MIB
Scenario = Callable[[BrokerServer, str], Awaitable[None]]


def serve(scenario: Scenario, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Run a scenario against a server whose memory limit is LIMIT, on a loop of the given kind."""

    async def run() -> None:
        server = BrokerServer(
            clock=SystemClock(), log=lambda _level, _text: None, memory_limit=LIMIT, max_message_size=2 * MIB
        )
        host, port = await server.start("127.0.0.1", 0)
        try:
            await scenario(server, f"amqp://guest:guest@{host}:{port}/")
        finally:
            await server.stop(timeout=1.0)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


LOOPS = pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
ENDS = pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])


def message(size: int, *, channel: int = 1, key: str = "q") -> bytes:
    return Client(make_broker()).publish_bytes(b"x" * size, key, channel=channel)


def unfinished(size: int, *, channel: int) -> bytes:
    """A message without its last body frame."""
    last = size % (131_072 - 8) + 8
    return message(size, channel=channel)[:-last]


@LOOPS
@ENDS
def test_unfinished_messages_of_a_closed_peer_are_freed(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], reset: bool
) -> None:
    async def scenario(server: BrokerServer, url: str) -> None:
        peer = await Raw.connect(url)
        for channel in range(2, 10):
            peer.write(commands.Channel.Open(), channel)
            peer.writer.write(unfinished(MIB, channel=channel))
        await until(lambda: server.stats().blocked)
        if reset:
            peer.reset()
        else:
            peer.writer.close()
        await until(lambda: server.stats().connections == 0)
        assert not server.stats().blocked
        assert server.stats().memory_bytes == 0

    serve(scenario, loop_factory)


@LOOPS
@ENDS
def test_closed_peer_is_noticed_while_the_alarm_keeps_its_socket_unread(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], reset: bool
) -> None:
    async def scenario(server: BrokerServer, url: str) -> None:
        peer = await Raw.connect(url)
        peer.write(commands.Queue.Declare(queue="q", exclusive=True))
        for _ in range(6):
            peer.writer.write(message(MIB))
        await until(lambda: server.stats().blocked)
        assert server.stats().memory_bytes > LIMIT
        if reset:
            peer.reset()
        else:
            peer.writer.close()
        await until(lambda: server.stats().connections == 0)
        await until(lambda: server.stats().memory_bytes == 0)
        assert await server.queues() == ()

    serve(scenario, loop_factory)


@LOOPS
def test_closed_peer_is_noticed_behind_more_input_than_its_socket_holds(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def scenario(server: BrokerServer, url: str) -> None:
        peer = await Raw.connect(url)
        peer.write(commands.Queue.Declare(queue="q", exclusive=True))
        for _ in range(5):
            peer.writer.write(message(MIB))
        await until(lambda: server.stats().blocked)
        with socket.socket(fileno=os.dup(peer.writer.get_extra_info("socket").fileno())) as raw:
            with suppress(BlockingIOError):
                while True:
                    raw.send(message(MIB))
            peer.writer.transport.abort()
        await until(lambda: server.stats().connections == 0)
        await until(lambda: server.stats().memory_bytes == 0)

    serve(scenario, loop_factory)


@LOOPS
def test_parked_messages_of_a_closed_peer_are_published(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def scenario(server: BrokerServer, url: str) -> None:
        peer = await Raw.connect(url)
        peer.write(commands.Queue.Declare(queue="q"))
        assert isinstance(await peer.read(), commands.Queue.DeclareOk)
        for _ in range(5):
            peer.writer.write(message(MIB))
        for _ in range(20):
            peer.writer.write(message(10))
        await peer.close()
        await until(lambda: server.stats().connections == 0)
        (queue,) = await server.queues()
        assert queue.ready == 25

    serve(scenario, loop_factory)


def test_message_in_progress_counts_with_its_announced_size() -> None:
    broker = make_broker(memory_limit=200_000)
    client = Client(broker)
    client.open()
    client.feed(client.publish_bytes(b"x" * 90_000)[:60])
    assert broker.memory.used > 90_000
    client.session.lost()
    assert broker.memory.used == 0


def test_message_in_progress_is_completed_during_the_alarm_and_the_next_one_waits() -> None:
    broker = make_broker(memory_limit=150_000)
    first, second = Client(broker), Client(broker)
    first.open()
    first.queue()
    second.open()
    whole = first.publish_bytes(b"x" * 80_000)
    first.feed(whole[:100])
    second.feed(whole[:100])
    assert broker.blocked
    first.feed(whole[100:] + whole)
    assert broker.vhosts["/"].queues["q"].ready.count == 1
    assert first.session.blocked


def test_parked_input_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "PARKED_MAX", 1000)
    broker = make_broker(memory_limit=150_000)
    client = Client(broker)
    for channel in (1, 2, 3):
        client.open(channel)
    whole = client.publish_bytes(b"x" * 80_000)
    for channel in (1, 2):
        client.feed(unfinished(80_000, channel=channel))
    client.feed(client.publish_bytes(b"", channel=3))
    assert client.session.blocked
    received = [client.session.receives]
    client.feed(whole[:1000])
    received.append(client.session.receives)
    assert received == [True, False]
    assert broker.parked >= 1000
    client.session.lost()
    assert broker.parked == 0


def test_properties_count_as_memory() -> None:
    broker = make_broker(memory_limit=100_000)
    client = Client(broker)
    client.open()
    client.queue()
    for number in range(20):
        client.publish(b"", headers={"blob": "x" * 9_000, "number": number})
    assert broker.blocked
    assert broker.vhosts["/"].queues["q"].ready.count < 20
    client.session.lost()
    queue = broker.vhosts["/"].queues["q"]
    count = queue.purge()
    assert broker.memory.free(100) == count
    assert broker.memory.used == 0


@pytest.mark.parametrize("no_ack", [False, True])
def test_properties_are_released_with_their_message(no_ack: bool) -> None:
    broker = make_broker()
    client = Client(broker)
    client.open()
    client.queue()
    client.publish(b"body", headers={"blob": "x" * 500})
    assert broker.memory.used > MESSAGE_COST + 500
    client.consume(no_ack=no_ack)
    if not no_ack:
        client.send(commands.Basic.Ack(delivery_tag=1))
    assert broker.memory.used == 0


def test_properties_of_an_uncommitted_transaction_count_as_memory() -> None:
    broker = make_broker()
    client = Client(broker)
    client.open()
    client.queue()
    client.call(commands.Tx.Select(), commands.Tx.SelectOk)
    client.publish(b"", headers={"blob": "x" * 500})
    assert broker.memory.used > MESSAGE_COST + 500
    client.call(commands.Tx.Rollback(), commands.Tx.RollbackOk)
    assert broker.memory.used == 0


def test_disk_alarm_blocks_publishers_until_it_is_cleared_whatever_the_memory() -> None:
    broker = make_broker()
    client = Client(broker)
    client.open()
    client.queue()
    broker.raise_alarm(Alarm.DISK, "no space left in /var/lib")
    client.publish(b"1")
    assert client.take(commands.Connection.Blocked, 0).reason == "low on disk"
    broker.memory.used += 2 * broker.memory_limit
    broker.check_memory()
    assert broker.blocked_by == "low on memory & disk"
    broker.clear_alarm(Alarm.DISK)
    assert broker.blocked
    broker.memory.used -= 2 * broker.memory_limit
    broker.check_memory()
    client.run()
    client.take(commands.Connection.Unblocked, 0)
    assert [message[2] for message, _ in broker.vhosts["/"].queues["q"].ready.waiting()] == [b"1"]

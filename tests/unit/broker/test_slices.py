"""Long work is cut into slices: no turn of the loop handles more than a bounded number of messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest
from pamqp import commands, frame

from msctl.broker.client_connection import FRAMES_PER_TURN
from msctl.broker.core.queues import EXPIRED_PER_STEP
from msctl.broker.protocol.wire import route_of
from msctl.broker.server import BrokerServer
from msctl.broker.statistics import QUEUES_PER_TURN
from msctl.broker.turns import FREED_PER_TURN, MESSAGES_PER_TURN, SLICES_PER_TURN
from msctl.clock import SystemClock
from tests.support.clock import FakeClock
from tests.support.waiting import until
from tests.unit.broker.client import Client, make_broker
from tests.unit.broker.raw import Raw

PLAIN = b"\x00\x00"
COUNT = 20_000
assert COUNT > 3 * FREED_PER_TURN
FRAMES_OF_A_MESSAGE = 3


@contextmanager
def steps_of(read: Callable[[], int]) -> Iterator[list[int]]:
    """Record by how much a value changes in each turn of the loop."""
    loop = asyncio.get_running_loop()
    steps: list[int] = []
    last = read()
    running = True

    def look() -> None:
        nonlocal last
        now = read()
        if now != last:
            steps.append(abs(now - last))
            last = now
        if running:
            loop.call_soon(look)

    loop.call_soon(look)
    yield steps
    running = False


@pytest.fixture
async def served() -> AsyncIterator[tuple[BrokerServer, str]]:
    server = BrokerServer(clock=SystemClock(), log=lambda _level, _text: None)
    host, port = await server.start("127.0.0.1", 0)
    yield server, f"amqp://guest:guest@{host}:{port}/"
    await server.stop(timeout=1.0)


async def filled(server: BrokerServer, url: str, count: int) -> Raw:
    """A connection that has published `count` messages to a new queue `q`."""
    peer = await Raw.connect(url)
    peer.write(commands.Queue.Declare(queue="q"))
    assert isinstance(await peer.read(), commands.Queue.DeclareOk)
    peer.writer.write(Client(make_broker()).publish_bytes(b"x") * count)
    await until(lambda: server.stats().messages == count, 30)
    return peer


@pytest.mark.parametrize(
    "method", [commands.Queue.Purge(queue="q"), commands.Queue.Delete(queue="q")], ids=["purge", "delete"]
)
async def test_messages_of_a_large_queue_are_freed_over_several_turns(
    served: tuple[BrokerServer, str], method: commands.Queue.Purge | commands.Queue.Delete
) -> None:
    server, url = served
    peer = await filled(server, url, COUNT)
    one = server.stats().memory_bytes // COUNT
    with steps_of(lambda: server.stats().memory_bytes) as steps:
        peer.write(method)
        answer = await peer.read()
        assert isinstance(answer, commands.Queue.PurgeOk | commands.Queue.DeleteOk)
        assert answer.message_count == COUNT
        assert server.stats().messages == 0
        await until(lambda: server.stats().memory_bytes == 0)
    assert sum(steps) == COUNT * one
    assert max(steps) <= FREED_PER_TURN * one
    await peer.close()


def test_expired_messages_are_dropped_a_step_at_a_time_over_all_queues() -> None:
    clock = FakeClock()
    broker = make_broker(clock, memory_limit=10**9)
    client = Client(broker)
    client.open()
    for name in ("a", "b", "c"):
        client.queue(name, **{"x-message-ttl": 10})
        queue = broker.vhosts["/"].queues[name]
        for _ in range(EXPIRED_PER_STEP * 3 // 5):
            queue.publish(route_of("", name), PLAIN, b"x")
    clock.set(1.0)
    before = broker.memory.messages
    steps = []
    while broker.memory.messages:
        broker.tick()
        steps.append(before - broker.memory.messages)
        before = broker.memory.messages
    assert steps == [EXPIRED_PER_STEP, EXPIRED_PER_STEP * 4 // 5]


def test_delivering_from_a_queue_of_expired_messages_is_bounded() -> None:
    clock = FakeClock()
    broker = make_broker(clock, memory_limit=10**9)
    client = Client(broker)
    client.open()
    client.queue("q", **{"x-message-ttl": 10})
    queue = broker.vhosts["/"].queues["q"]
    for _ in range(3 * MESSAGES_PER_TURN):
        queue.publish(route_of("", "q"), PLAIN, b"x")
    clock.set(1.0)
    before = queue.ready.count
    assert queue.pump(MESSAGES_PER_TURN) == MESSAGES_PER_TURN
    assert before - queue.ready.count == MESSAGES_PER_TURN


def test_get_skips_expired_messages_over_several_turns_and_finds_the_live_one() -> None:
    clock = FakeClock()
    broker = make_broker(clock, memory_limit=10**9)
    client = Client(broker)
    client.open()
    client.queue()
    queue = broker.vhosts["/"].queues["q"]
    for _ in range(3 * EXPIRED_PER_STEP):
        queue.publish(route_of("", "q"), PLAIN, b"old", 10)
    queue.publish(route_of("", "q"), PLAIN, b"live")
    clock.set(1.0)
    turns = 0
    client.session.receive(frame.marshal(commands.Basic.Get(queue="q", no_ack=True), 1))
    while client.session.process(100):
        turns += 1
        assert 3 * EXPIRED_PER_STEP + 1 - queue.ready.count <= (turns + 1) * EXPIRED_PER_STEP
    client.read()
    assert turns >= 2
    assert client.bodies() == [b"live"]


def test_live_message_behind_expired_ones_reaches_a_waiting_consumer() -> None:
    clock = FakeClock()
    broker = make_broker(clock, memory_limit=10**9)
    client = Client(broker)
    client.open()
    client.queue()
    queue = broker.vhosts["/"].queues["q"]
    for _ in range(3 * EXPIRED_PER_STEP):
        queue.publish(route_of("", "q"), PLAIN, b"old", 10)
    clock.set(1.0)
    client.consume(no_ack=True)
    client.publish(b"live", expiration="60000")
    assert client.bodies() == [b"live"]


async def test_queues_are_listed_over_several_turns_in_order() -> None:
    server = BrokerServer(clock=SystemClock(), log=lambda _level, _text: None)
    host, port = await server.start("127.0.0.1", 0)
    peer = await Raw.connect(f"amqp://guest:guest@{host}:{port}/")
    count = 3 * QUEUES_PER_TURN
    for number in range(count):
        peer.write(commands.Queue.Declare(queue=f"q{number * 7919 % count:05}", nowait=True))
    peer.write(commands.Queue.Declare(queue="last"))
    assert isinstance(await peer.read(), commands.Queue.DeclareOk)
    turns = 0
    listing = asyncio.ensure_future(server.queues())
    while not listing.done():
        turns += 1
        await asyncio.sleep(0)
    names = [queue.name for queue in listing.result()]
    assert names == ["last", *(f"q{number:05}" for number in range(count))]
    assert turns > 6
    await peer.close()
    await server.stop(timeout=1.0)


async def test_many_publishers_share_the_messages_of_a_turn(served: tuple[BrokerServer, str]) -> None:
    server, url = served
    first = await filled(server, url, 1)
    peers = [await Raw.connect(url) for _ in range(20)]
    batch = Client(make_broker()).publish_bytes(b"x") * 1_000
    with steps_of(lambda: server.stats().published) as steps:
        for peer in peers:
            peer.writer.write(batch)
        await until(lambda: server.stats().published == 1 + 20 * 1_000, 30)
    # A turn can begin with slices of sockets that were just read, and end with slices of those that wait.
    assert max(steps) <= 2 * SLICES_PER_TURN * FRAMES_PER_TURN // FRAMES_OF_A_MESSAGE
    for peer in (first, *peers):
        await peer.close()

"""What outlives a broker: both brokers are stopped, then killed, and say afterwards what they still have.

Each needs a broker of its own, so all tests look at the same two restarts.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest
from pamqp import commands

from msctl.brokers.local_rabbitmq import RabbitNode
from msctl.brokers.rabbitmq_files import RabbitSettings
from tests.support.amqp_probe import Channel, ChannelClosed, Probe, declare_exchange
from tests.support.broker_process import broker_process
from tests.support.rabbitmq import require_binary

NOT_FOUND = 404
TRANSIENT, PERSISTENT = 1, 2

MATRIX = tuple(product((False, True), repeat=3))
"""durable, auto-delete, exclusive"""

Held = list[tuple[bytes, bool]]


def matrix_queue(durable: bool, auto_delete: bool, exclusive: bool) -> str:
    return f"matrix-{durable:d}{auto_delete:d}{exclusive:d}"


@dataclass
class Observed:
    """What a broker has after a restart: the messages of each queue with their flag redelivered, and its
    exchanges; or the code of the refusal."""

    queues: dict[str, Held | int] = field(default_factory=dict)
    exchanges: dict[str, bool] = field(default_factory=dict)
    routed: Held | int = 0


async def prepare(url: str) -> Probe:
    connection = await Probe.connect(url)
    channel = await connection.channel()
    for durable, auto_delete, exclusive in MATRIX:
        name = matrix_queue(durable, auto_delete, exclusive)
        await channel.declare(name, durable=durable, auto_delete=auto_delete, exclusive=exclusive)
        for mode in (TRANSIENT, PERSISTENT):
            await channel.put(name, b"%d" % mode, delivery_mode=mode)
    await channel.declare("consumed", durable=True, auto_delete=True)
    await channel.consume("consumed")
    await prepare_flags(connection, channel)
    await channel.declare("urgent", durable=True, arguments={"x-max-priority": 5})
    for priority in (1, 5, 3):
        await channel.put("urgent", b"%d" % priority, delivery_mode=PERSISTENT, priority=priority)
    await channel.declare("purged", durable=True)
    await channel.put("purged", b"a", b"b", delivery_mode=PERSISTENT)
    await channel.rpc(commands.Queue.Purge(0, "purged"), commands.Queue.PurgeOk)
    await channel.put("purged", b"c", delivery_mode=PERSISTENT)
    await channel.declare("deleted", durable=True)
    await channel.delete("deleted")
    for durable, auto_delete in product((False, True), repeat=2):
        exchange = f"exchange-{durable:d}{auto_delete:d}"
        await channel.exchange(exchange, "fanout", durable=durable, auto_delete=auto_delete)
        await channel.bind("purged", exchange)
    await channel.exchange("of-an-exclusive-queue", "fanout", durable=True, auto_delete=True)
    await channel.bind(matrix_queue(True, False, True), "of-an-exclusive-queue")
    await channel.bind("purged", "amq.topic", "unbound")
    await channel.rpc(commands.Queue.Unbind(0, "purged", "amq.topic", "unbound"), commands.Queue.UnbindOk)
    await channel.declare("dead", durable=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-message-ttl": 1}
    await channel.declare("expiring", durable=True, arguments=arguments)
    await channel.put("expiring", b"dead", delivery_mode=PERSISTENT)
    while (await channel.counts("dead"))[0] == 0:
        await asyncio.sleep(0.01)
    return connection


async def prepare_flags(connection: Probe, channel: Channel) -> None:
    """A queue with messages that were delivered, returned, acknowledged, and none of it."""
    await channel.declare("flags", durable=True)
    bodies = (b"held", b"returned", b"acknowledged", b"ready")
    await channel.put("flags", *bodies, delivery_mode=PERSISTENT)
    other = await connection.channel()
    taken = [message for _ in range(3) if (message := await other.get("flags")) is not None]
    other.nack(taken[1].tag)
    other.ack(taken[2].tag)
    await other.rpc(commands.Tx.Select(), commands.Tx.SelectOk)
    await other.rpc(commands.Tx.Commit(), commands.Tx.CommitOk)  # the acknowledgement is written, too


async def observe(url: str) -> Observed:
    connection = await Probe.connect(url)
    found = Observed()
    names = [matrix_queue(*flags) for flags in MATRIX]
    for name in (*names, "consumed", "flags", "urgent", "purged", "deleted", "dead"):
        found.queues[name] = await held(connection, name)
    for name in (
        *(f"exchange-{d:d}{a:d}" for d, a in product((False, True), repeat=2)),
        "of-an-exclusive-queue",
    ):
        try:
            channel = await connection.channel()
            await channel.rpc(declare_exchange(name, "fanout", passive=True), commands.Exchange.DeclareOk)
        except ChannelClosed:
            found.exchanges[name] = False
        else:
            found.exchanges[name] = True
    channel = await connection.channel()
    await channel.put("", b"routed", exchange="exchange-10", delivery_mode=PERSISTENT)
    await channel.put("unbound", b"not routed", exchange="amq.topic", delivery_mode=PERSISTENT)
    found.routed = await held(connection, "purged")
    await connection.close()
    return found


async def held(connection: Probe, queue: str) -> Held | int:
    """The messages of a queue, taken out, or the code with which it is refused."""
    channel = await connection.channel()
    messages: Held = []
    try:
        while (message := await channel.get(queue, no_ack=True)) is not None:
            messages.append((message.body, message.redelivered))
    except ChannelClosed as closed:
        return closed.code
    return messages


@asynccontextmanager
async def rabbitmq(folder: Path, end: str) -> AsyncIterator[str]:
    """A node on `folder` that ends as `end` says."""
    node = RabbitNode(RabbitSettings("127.0.0.1", 0, folder), log=lambda _level, _text: None)
    try:
        yield await node.start()
    finally:
        if end == "kill" and node.pid is not None:
            os.kill(node.pid, signal.SIGKILL)
        await node.stop()


@asynccontextmanager
async def embedded(folder: Path, end: str) -> AsyncIterator[str]:
    """An embedded broker on a log below `folder` that ends as `end` says."""
    with broker_process(folder / "state" / "broker") as broker:
        assert broker.said == []
        yield broker.url
        if end == "stop":
            await asyncio.to_thread(broker.stop)


async def restart(name: str, folder: Path, end: str) -> Observed:
    run = rabbitmq if name == "rabbitmq" else embedded
    async with run(folder, end) as url:
        connection = await prepare(url)
    async with run(folder, "kill") as url:
        found = await observe(url)
    await connection.close()
    return found


@pytest.fixture(
    scope="module",
    params=[pytest.param("rabbitmq", marks=[pytest.mark.rabbitmq, pytest.mark.long]), "embedded"],
)
def restarts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Observed]]:
    """What a broker has after a stop, and what another one has after a kill."""
    if request.param == "rabbitmq":
        require_binary()
    folder = tmp_path_factory.mktemp("restart")

    async def both() -> dict[str, Observed]:
        ends = ("stop", "kill")
        found = await asyncio.gather(*(restart(request.param, folder / end, end) for end in ends))
        return dict(zip(ends, found, strict=True))

    yield asyncio.run(both())


@pytest.fixture(params=["stop", "kill"])
def after(request: pytest.FixtureRequest, restarts: dict[str, Observed]) -> Observed:
    return restarts[request.param]


@pytest.mark.parametrize(("durable", "auto_delete", "exclusive"), MATRIX)
def test_persistent_messages_of_durable_queues_that_are_not_exclusive_survive(
    after: Observed, durable: bool, auto_delete: bool, exclusive: bool
) -> None:
    found = after.queues[matrix_queue(durable, auto_delete, exclusive)]
    if durable and not exclusive:
        assert isinstance(found, list)
        assert [body for body, _ in found] == [b"2"]
    else:
        assert found == NOT_FOUND


def test_an_auto_delete_queue_goes_with_its_consumer_at_a_stop(restarts: dict[str, Observed]) -> None:
    assert restarts["stop"].queues["consumed"] == NOT_FOUND
    assert restarts["kill"].queues["consumed"] == []


def test_a_stop_keeps_the_flag_redelivered(restarts: dict[str, Observed]) -> None:
    assert restarts["stop"].queues["flags"] == [(b"held", True), (b"returned", True), (b"ready", False)]
    assert restarts["stop"].queues["urgent"] == [(b"5", False), (b"3", False), (b"1", False)]


def test_after_a_kill_every_message_counts_as_redelivered(restarts: dict[str, Observed]) -> None:
    assert restarts["kill"].queues["flags"] == [(b"held", True), (b"returned", True), (b"ready", True)]
    assert restarts["kill"].queues["urgent"] == [(b"5", True), (b"3", True), (b"1", True)]


def test_what_was_purged_or_deleted_does_not_come_back(after: Observed) -> None:
    purged = after.queues["purged"]
    assert isinstance(purged, list)
    assert [body for body, _ in purged] == [b"c"]
    assert after.queues["deleted"] == NOT_FOUND


def test_a_dead_letter_survives_a_stop_where_it_went(restarts: dict[str, Observed]) -> None:
    # RabbitMQ may lose it if it is killed soon afterwards.
    assert restarts["stop"].queues["dead"] == [(b"dead", False)]


def test_durable_exchanges_and_their_bindings_survive(restarts: dict[str, Observed]) -> None:
    for found in restarts.values():
        assert [found.exchanges[f"exchange-{kind}"] for kind in ("00", "01", "10", "11")] == [
            False,
            False,
            True,
            True,
        ]
        assert found.routed == [(b"routed", False)]
    assert not restarts["stop"].exchanges["of-an-exclusive-queue"]

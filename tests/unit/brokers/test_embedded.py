"""The embedded broker's snapshot: queues, memory and the alarm."""

from __future__ import annotations

import asyncio

from pamqp import commands

from msctl.broker.server import BrokerServer
from msctl.brokers.embedded import EmbeddedBroker
from msctl.clock import SystemClock
from msctl.model.broker_spec import BrokerSpec
from msctl.model.broker_url import BrokerUrl
from msctl.model.snapshots import State
from tests.support.waiting import until
from tests.unit.broker.client import Client, make_broker
from tests.unit.broker.raw import Raw

LIMIT = 2 * 1024 * 1024


async def test_memory_alarm_is_in_the_snapshot() -> None:
    servers: list[BrokerServer] = []

    def make(url: BrokerUrl) -> tuple[BrokerServer, BrokerUrl]:
        clock = SystemClock(asyncio.sleep)
        servers.append(
            BrokerServer(
                clock=clock,
                log=lambda _level, _text: None,
                users={url.user: url.password},
                vhosts=(url.vhost,),
                memory_limit=LIMIT,
            )
        )
        return servers[-1], url

    broker = EmbeddedBroker(BrokerSpec(url="amqp://guest:guest@127.0.0.1:0/"), make)
    await broker.start()
    before = await broker.snapshot()
    assert (before.state, before.blocked, before.reason) == (State.READY, False, "")
    assert (before.memory_bytes, before.memory_limit) == (0, LIMIT)
    peer = await Raw.connect(broker.url)
    peer.write(commands.Queue.Declare(queue="q"))
    peer.writer.write(Client(make_broker()).publish_bytes(b"x" * 100_000) * 30)
    await until(lambda: servers[0].stats().blocked)
    during = await broker.snapshot()
    assert during.blocked
    assert during.reason.startswith("memory alarm: publishers are blocked")
    assert (during.memory_bytes or 0) > LIMIT
    assert [queue.name for queue in during.queues or ()] == ["q"]
    broker.purge("q")
    await until(lambda: not servers[0].stats().blocked)
    await peer.close()
    await broker.stop()

"""A broker that is killed under load, again and again: what it confirmed is there, once, and in order.

Each round publishes, consumes and commits over real connections until the broker gets SIGKILL. The next
round's broker reads the log. Messages are numbered by publisher.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from tests.support.broker_process import BrokerProcess, broker_process
from tests.support.long import Record

QUEUE = "durable"
WINDOW = 40
MANY = 500
GONE = (ConnectionError, aio_pika.exceptions.AMQPError, asyncio.CancelledError, RuntimeError)
"""What a client may raise once its broker is killed."""


@dataclass
class Account:
    """What the clients know, by the bodies of messages."""

    published: set[bytes] = field(default_factory=set)
    confirmed: set[bytes] = field(default_factory=set)
    acknowledged: set[bytes] = field(default_factory=set)
    """An acknowledgement was sent; the broker may not have got it."""
    committed: set[bytes] = field(default_factory=set)
    """A transaction with the acknowledgement was committed."""
    numbers: dict[str, int] = field(default_factory=dict)
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once there are as many confirms as the round waits for."""
    awaited: int = 0

    def confirm(self, body: bytes) -> None:
        self.confirmed.add(body)
        self.awaited -= 1
        if self.awaited <= 0:
            self.enough.set()

    def next_body(self, publisher: str) -> bytes:
        number = self.numbers[publisher] = self.numbers.get(publisher, 0) + 1
        body = b"%s %09d" % (publisher.encode(), number)
        self.published.add(body)
        return body


async def declared(channel: aio_pika.abc.AbstractChannel) -> AbstractQueue:
    return await channel.declare_queue(QUEUE, durable=True)


async def publish(url: str, account: Account, name: str, size: int) -> None:
    """Publish with confirms, a window at a time."""
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    await declared(channel)

    async def one(body: bytes) -> None:
        message = aio_pika.Message(
            body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, headers={"pad": "x" * size}
        )
        await channel.default_exchange.publish(message, QUEUE)
        account.confirm(body)

    while True:
        sent = [asyncio.create_task(one(account.next_body(name))) for _ in range(WINDOW)]
        for result in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result


async def consume(url: str, account: Account) -> None:
    """Acknowledge nine of ten messages; leave the others unacknowledged."""
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    await channel.set_qos(50)
    queue = await declared(channel)

    async def take(message: AbstractIncomingMessage) -> None:
        if not message.body.endswith(b"0"):
            account.acknowledged.add(message.body)
            with suppress(*GONE):
                await message.ack()

    await queue.consume(take)
    await asyncio.Event().wait()


async def commit(url: str, account: Account) -> None:
    """Acknowledge messages in transactions."""
    connection = await aio_pika.connect(url)
    channel = await connection.channel(publisher_confirms=False)
    queue = await declared(channel)
    transaction = channel.transaction()
    await transaction.select()
    while True:
        taken = [message for _ in range(5) if (message := await queue.get(fail=False)) is not None]
        for message in taken:
            account.acknowledged.add(message.body)
            await message.ack()
        await transaction.commit()
        account.committed.update(message.body for message in taken)


async def load_until_killed(broker: BrokerProcess, account: Account, confirms: int, name: str) -> None:
    """Kill the broker as soon as it has confirmed so many messages."""
    account.awaited = confirms
    account.enough.clear()
    clients = [
        asyncio.create_task(work)
        for work in (
            publish(broker.url, account, f"{name}a", 10),
            publish(broker.url, account, f"{name}b", 2000),
            consume(broker.url, account),
            commit(broker.url, account),
        )
    ]
    await account.enough.wait()
    broker.kill()
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)


async def held(url: str) -> AsyncIterator[tuple[bytes, bool]]:
    """All messages of the queue, which keeps them; if there are many, it is purged."""
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    queue = await declared(channel)
    count = queue.declaration_result.message_count
    found: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await queue.consume(found.put)
    for _ in range(count or 0):
        message = await found.get()
        yield message.body, bool(message.redelivered)
    await channel.close()
    if (count or 0) > MANY:
        await (await declared(await connection.channel())).purge()
    await connection.close()


async def check(broker: BrokerProcess, account: Account) -> int:
    """What the queue holds is what it must hold; returns how many messages it was."""
    assert broker.said == []
    messages = [message async for message in held(broker.url)]
    bodies = [body for body, _ in messages]
    assert len(set(bodies)) == len(bodies)
    found = set(bodies)
    assert account.confirmed - account.acknowledged <= found
    assert not account.committed & found
    assert found <= account.published
    assert all(redelivered for _, redelivered in messages)
    for publisher in account.numbers:
        mine = [body for body in bodies if body.startswith(publisher.encode())]
        assert mine == sorted(mine)
    # From here on, what is there counts as confirmed, and what is not is gone for good.
    kept = found if len(found) <= MANY else set()
    account.confirmed, account.acknowledged, account.published = set(kept), set(), set(kept)
    return len(found)


async def kill_rounds(folder: Path, rounds: int, durability: str, seed: int) -> int:
    """Kill a broker `rounds` times; returns how many messages were checked."""
    chance = random.Random(seed)
    account = Account()
    checked = 0
    for number in range(rounds + 1):
        with broker_process(folder, durability, segment_size=256 * 1024) as broker:
            if number:
                checked += await check(broker, account)
            if number < rounds:
                await load_until_killed(broker, account, chance.randint(1, 1000), f"{number}")
    return checked


@pytest.mark.parametrize("durability", ["process", "disk"])
async def test_what_was_confirmed_survives_kills_under_load(tmp_path: Path, durability: str) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    assert await kill_rounds(tmp_path / "state" / "broker", 5, durability, seed) > 0


@pytest.mark.long
@pytest.mark.parametrize("durability", ["process", "disk"])
async def test_what_was_confirmed_survives_many_kills(
    tmp_path: Path, durability: str, record: Record
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rounds = 250
    record("messages checked", await kill_rounds(tmp_path / "state" / "broker", rounds, durability, seed))
    record("kills", rounds)

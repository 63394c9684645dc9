"""Whoever outlives a connection comes back, says so, waits in between, and stops when told to."""

from __future__ import annotations

import asyncio
import contextlib

import aio_pika
import pytest
from pamqp.commands import Basic

from msctl.amqp.connection import Connection
from msctl.amqp.consumer import Consumer
from msctl.amqp.delivery import Delivery
from msctl.amqp.errors import BrokerAwayError, BrokerRefusedError
from msctl.amqp.publisher import Publisher
from msctl.amqp.queues import count
from msctl.amqp.reconnecting import (
    QueueEndpoint,
    ReconnectingConsumer,
    ReconnectingPublisher,
    keep_connected,
    running,
)
from msctl.amqp.url import BrokerUrl, parse_url
from msctl.backoff import Backoff
from msctl.errors import BrokerError
from tests.support.clock import FakeClock, settle
from tests.support.proxy import Proxy, proxy


class Heard:
    """What was said, and a way to wait for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._news = asyncio.Event()

    def __call__(self, text: str) -> None:
        self.lines.append(text)
        self._news.set()

    async def until(self, part: str, times: int = 1) -> str:
        while True:
            found = [line for line in self.lines if part in line]
            if len(found) >= times:
                return found[-1]
            self._news.clear()
            async with asyncio.timeout(60):
                await self._news.wait()


def through(between: Proxy) -> BrokerUrl:
    return parse_url(f"amqp://guest:guest@127.0.0.1:{between.listen_port}/")


def place(url: BrokerUrl, queue: str, heard: Heard) -> QueueEndpoint:
    return QueueEndpoint(url, queue, "test", heard)


async def never() -> Connection:
    raise BrokerAwayError("no broker listens there")


async def unused(_connection: Connection) -> None:
    raise AssertionError("there is no connection to use")


async def test_attempts_are_spaced_by_the_backoff_and_each_is_said() -> None:
    clock, heard = FakeClock(), Heard()
    task = asyncio.create_task(
        keep_connected(never, unused, notify=heard, clock=clock, backoff=Backoff(rand=lambda: 0.5))
    )
    await clock.advance(3.4)
    assert heard.lines == [f"no broker listens there; retrying in {wait:.1f} s" for wait in (0.5, 1.0, 2.0)]
    task.cancel()
    await asyncio.wait([task])


async def test_a_time_limit_ends_it_with_the_last_reason() -> None:
    clock = FakeClock()
    task = asyncio.create_task(
        keep_connected(
            never, unused, notify=Heard(), clock=clock, give_up_after=10, backoff=Backoff(rand=lambda: 0.5)
        )
    )
    await clock.advance(9)
    assert not task.done()
    await clock.advance(10)
    with pytest.raises(BrokerAwayError, match="no broker listens there"):
        await task


async def test_with_a_time_limit_a_refusal_ends_it_at_once() -> None:
    async def refused() -> Connection:
        raise BrokerRefusedError("wrong password", code=403, text="no")

    with pytest.raises(BrokerRefusedError):
        await keep_connected(refused, unused, notify=Heard(), clock=FakeClock(), give_up_after=10)


async def test_without_one_even_a_refusal_is_waited_out() -> None:
    clock, heard = FakeClock(), Heard()

    async def refused() -> Connection:
        raise BrokerRefusedError("wrong password", code=403, text="no")

    task = asyncio.create_task(keep_connected(refused, unused, notify=heard, clock=clock))
    await clock.advance(60)
    assert len(heard.lines) > 4
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


async def test_a_connection_that_lived_long_starts_again_with_the_shortest_wait(url: BrokerUrl) -> None:
    clock, heard = FakeClock(), Heard()
    attempts = 0

    async def connect() -> Connection:
        nonlocal attempts
        attempts += 1
        if attempts == 4:
            return await Connection.open(url, name="test")
        raise BrokerAwayError("away")

    async def session(_connection: Connection) -> None:
        clock.set(clock.monotonic() + 60)
        raise BrokerAwayError("lost")

    task = asyncio.create_task(
        keep_connected(connect, session, notify=heard, clock=clock, backoff=Backoff(rand=lambda: 0.5))
    )
    await clock.advance(3.5)
    line = await heard.until("lost")
    assert line == "lost; retrying in 0.5 s"
    task.cancel()
    await asyncio.wait([task])


async def test_a_publisher_starts_without_a_broker_and_says_why_it_cannot_publish() -> None:
    heard = Heard()
    async with proxy("127.0.0.1", 1) as between:
        await between.cut()
        publisher = ReconnectingPublisher(place(through(between), "hello", heard))
        with pytest.raises(BrokerAwayError, match="still connecting"):
            await publisher.publish(b"x", Basic.Properties())
        async with running(publisher):
            await heard.until("connection refused; retrying in")
            with pytest.raises(BrokerAwayError, match="connection refused"):
                await publisher.publish(b"x", Basic.Properties())


async def test_a_publisher_comes_back_when_the_broker_does(
    url: BrokerUrl, connection: Connection, queue: str
) -> None:
    heard = Heard()
    async with proxy(url.host, url.port) as between:
        publisher = ReconnectingPublisher(place(through(between), queue, heard))
        async with running(publisher):
            await heard.until("connected to the broker")
            await publisher.publish(b"1", Basic.Properties())
            await between.cut()
            await heard.until("retrying in")
            with pytest.raises(BrokerError):
                await publisher.publish(b"lost", Basic.Properties())
            await between.listen()
            await heard.until("connected to the broker", times=2)
            await publisher.publish(b"2", Basic.Properties())
    assert (await count(connection, queue)).ready == 2


async def test_a_publisher_declares_its_queue_again_when_it_was_deleted(
    url: BrokerUrl, connection: Connection, queue: str
) -> None:
    heard = Heard()
    publisher = ReconnectingPublisher(place(url, queue, heard))
    async with running(publisher):
        await heard.until("connected to the broker")
        channel = await connection.channel()
        await connection.ask(channel.queue_delete(queue))
        await publisher.publish(b"x", Basic.Properties())
    assert heard.lines[-1] == f"queue '{queue}' was deleted: declaring it again"
    assert (await count(connection, queue)).ready == 1


async def test_a_consumer_handles_in_order_and_comes_back_after_a_loss(
    url: BrokerUrl, connection: Connection, queue: str
) -> None:
    heard, seen = Heard(), Heard()

    async def handle(delivery: Delivery) -> None:
        seen(delivery.body.decode())

    publisher = await Publisher.open(connection)
    template = publisher.template(Basic.Properties(), exchange="", routing_key=queue)
    async with proxy(url.host, url.port) as between:
        consumer = ReconnectingConsumer(place(through(between), queue, heard), handle)
        async with running(consumer):
            await heard.until("consuming queue")
            for body in (b"a", b"b"):
                await publisher.publish(template, body)
            await seen.until("b")
            await between.cut()
            await heard.until("retrying in")
            await publisher.publish(template, b"c")
            await between.listen()
            await seen.until("c")
    assert list(dict.fromkeys(seen.lines)) == ["a", "b", "c"]
    await publisher.close()


async def test_a_handler_that_fails_gets_the_message_again(
    url: BrokerUrl, connection: Connection, queue: str
) -> None:
    heard = Heard()
    seen: list[Delivery] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery)
        if len(seen) == 1:
            raise ValueError("not today")

    publisher = await Publisher.open(connection)
    template = publisher.template(Basic.Properties(), exchange="", routing_key=queue)
    await publisher.publish(template, b"x")
    await publisher.close()
    async with running(ReconnectingConsumer(place(url, queue, heard), handle)):
        await heard.until("handling a message failed: ValueError('not today')")
        await heard.until("consuming queue", times=2)
        while len(seen) < 2:
            await asyncio.sleep(0.01)
    assert [delivery.redelivered for delivery in seen] == [False, True]
    assert (await count(connection, queue)).ready == 0


async def test_stopping_closes_the_connection_promptly(
    url: BrokerUrl, connection: Connection, queue: str
) -> None:
    heard = Heard()

    async def handle(_delivery: Delivery) -> None: ...

    async with running(ReconnectingConsumer(place(url, queue, heard), handle)):
        await heard.until("consuming queue")
        assert (await count(connection, queue)).consumers == 1
    assert (await count(connection, queue)).consumers == 0
    consumer = await Consumer.open(connection, queue)
    await consumer.finish()
    await settle()


async def test_a_cancellation_that_the_library_swallows_is_heard_all_the_same(
    url: BrokerUrl, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = asyncio.Event()
    real = aio_pika.Connection.connect

    async def deaf(connection: aio_pika.Connection, timeout: float | None = None) -> None:
        """Connects, and takes a cancellation for success, as wait_for of Python 3.11 can."""
        await real(connection, timeout)
        connected.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    monkeypatch.setattr(aio_pika.Connection, "connect", deaf)
    task = asyncio.create_task(ReconnectingPublisher(place(url, queue, Heard())).run())
    await connected.wait()
    task.cancel()
    _, pending = await asyncio.wait([task], timeout=5)
    assert not pending

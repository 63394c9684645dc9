"""Users of the broker that outlive a connection: they come back, and say what they are doing.

Every attempt and every loss is told to a callback, attempts are spaced by a backoff, and nothing is
retried in silence. Cancelling the task that runs one of these closes its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pamqp.commands import Basic

from msctl.amqp.connection import Connection, cancellations, closing, raise_if_cancelled
from msctl.amqp.consumer import Consumer, Delivery
from msctl.amqp.errors import NO_ROUTE, BrokerAwayError, BrokerRefusedError
from msctl.amqp.publisher import Publisher
from msctl.amqp.queues import Notify, NotifyOnce, declare, open_with_queue
from msctl.amqp.url import BrokerUrl
from msctl.backoff import Backoff
from msctl.clock import AsyncClock, SystemClock
from msctl.errors import BrokerError, TimedOutError
from msctl.model.snapshots import MessagingObserver

STEADY = 10.0
"""Seconds that a connection must have lived for the next loss to start at the shortest wait."""
PUBLISH_TIMEOUT = 10.0
PREFETCH = 100

Session = Callable[[Connection], Awaitable[None]]


async def keep_connected(
    open_connection: Callable[[], Awaitable[Connection]],
    session: Session,
    *,
    notify: Notify,
    clock: AsyncClock,
    backoff: Backoff | None = None,
    give_up_after: float | None = None,
) -> None:
    """Run `session` on a connection, and again on a new one each time the broker goes away.

    Returns when a session returns. `give_up_after` seconds without a connection end it with the last
    BrokerError; None goes on for ever, and then even a refusal (a wrong password, notify) is waited out,
    since whoever runs the broker can mend it.
    """
    backoff = backoff or Backoff()
    before = cancellations()
    away_since = clock.monotonic()
    while True:
        try:
            async with closing(await open_connection()) as connection:
                since = clock.monotonic()
                try:
                    await session(connection)
                    return
                finally:
                    away_since = clock.monotonic()
                    if away_since - since >= STEADY:
                        backoff.reset()
        except (BrokerError, TimedOutError) as error:
            raise_if_cancelled(before)
            if give_up_after is not None:
                gone = clock.monotonic() - away_since
                if gone >= give_up_after or not isinstance(error, BrokerAwayError):
                    raise
            wait = backoff.next()
            notify(f"{error.message}; trying again in {wait:.1f} s")
            await clock.sleep(wait)


@dataclass(frozen=True, slots=True)
class QueueEndpoint:
    """A queue of a broker, and its user there: `name` is what the broker shows of the connection, `notify`
    is told what happens, `observer` is around each message."""

    url: BrokerUrl
    queue: str
    name: str
    notify: Notify
    observer: MessagingObserver | None = None

    async def stay(self, session: Session, report: Notify) -> None:
        """Keep connected, the queue declared, until cancelled; `report` is told of attempts and losses."""
        once = NotifyOnce(self.notify)
        await keep_connected(
            lambda: open_with_queue(self.url, self.queue, name=self.name, notify=once),
            session,
            notify=report,
            clock=SystemClock(asyncio.sleep),
        )


class ReconnectingPublisher:
    """Publishes to one queue whenever the broker is there, and says why it cannot when it is not."""

    def __init__(self, place: QueueEndpoint) -> None:
        self._place = place
        self._session_now: tuple[Connection, Publisher] | None = None
        self._why = f"still connecting to the broker at {place.url.address}"

    async def run(self) -> None:
        """Keep connected until cancelled."""
        await self._place.stay(self._session, self._report)

    async def publish(self, body: bytes, properties: Basic.Properties) -> None:
        """Return when the broker has confirmed the message.

        Raises BrokerAwayError while there is no broker, BrokerRefusedError, TimedOutError, and
        UsageError for a message that does not fit AMQP.
        """
        if self._place.observer is None:
            await self._publish(body, properties)
            return
        with self._place.observer.publishing(self._place.queue) as headers:
            properties.headers = {**(properties.headers or {}), **headers}
            await self._publish(body, properties)

    async def _publish(self, body: bytes, properties: Basic.Properties) -> None:
        if self._session_now is None:
            raise BrokerAwayError(self._why)
        connection, publisher = self._session_now
        template = publisher.template(properties, exchange="", routing_key=self._place.queue)
        try:
            await publisher.publish(template, body)
        except BrokerRefusedError as refusal:
            if refusal.code != NO_ROUTE:
                raise
            self._place.notify(f"queue '{self._place.queue}' was deleted: declaring it again")
            await declare(connection, self._place.queue, notify=self._place.notify)
            await publisher.publish(template, body)

    async def _session(self, connection: Connection) -> None:
        publisher = await Publisher.open(connection, timeout=PUBLISH_TIMEOUT)
        try:
            self._session_now = (connection, publisher)
            self._place.notify(f"connected to the broker at {connection.url.address}")
            raise await publisher.failed()
        finally:
            self._session_now = None
            await publisher.close()

    def _report(self, text: str) -> None:
        self._why = text
        self._place.notify(text)


class ReconnectingConsumer:
    """Hands each message of one queue to `handle`, in order, and acknowledges it after that.

    Where `handle` raises, the message and those behind it go back to the queue, the error is told
    to `notify`, and they come again after a pause.
    """

    def __init__(self, place: QueueEndpoint, handle: Callable[[Delivery], Awaitable[None]]) -> None:
        self._place = place
        self._handle = handle

    async def run(self) -> None:
        """Consume until cancelled."""
        await self._place.stay(self._session, self._place.notify)

    async def _session(self, connection: Connection) -> None:
        consumer = await Consumer.open(connection, self._place.queue, prefetch=PREFETCH)
        self._place.notify(f"consuming queue '{self._place.queue}' of the broker at {connection.url.address}")
        try:
            while True:
                for delivery in await consumer.take():
                    await self._deal_with(delivery)
                    await consumer.mark_done(1)
        finally:
            await consumer.finish()

    async def _deal_with(self, delivery: Delivery) -> None:
        try:
            if self._place.observer is None:
                await self._handle(delivery)
            else:
                with self._place.observer.processing(self._place.queue, delivery.properties.headers):
                    await self._handle(delivery)
        except Exception as exc:  # whatever it is, it must not end the consumer
            raise BrokerAwayError(f"a message could not be handled: {exc!r}") from exc


@asynccontextmanager
async def running(user: ReconnectingPublisher | ReconnectingConsumer) -> AsyncIterator[None]:
    """Keep `user` connected as long as the block runs; its connection is closed at the end."""
    task = asyncio.create_task(user.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])

"""A publisher and a consumer that reconnect.

Every attempt and every lost connection is reported to a callback, and a backoff spaces the attempts.
Cancelling the task that runs one of them closes its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pamqp.commands import Basic

from msctl.amqp.connection import Connection, cancellations, closing, raise_if_cancelled
from msctl.amqp.consumer import Consumer
from msctl.amqp.delivery import Delivery
from msctl.amqp.errors import NO_ROUTE, BrokerAwayError, BrokerRefusedError
from msctl.amqp.publisher import Publisher
from msctl.amqp.queues import Notify, NotifyOnce, declare, open_with_queue
from msctl.amqp.url import BrokerUrl
from msctl.backoff import Backoff
from msctl.clock import AsyncClock, SystemClock
from msctl.errors import BrokerError, TimedOutError
from msctl.model.views import MessageFacts, MessagingObserver

STEADY = 10.0
"""Seconds after which a connection counts as stable, so that its loss restarts the backoff."""
PUBLISH_TIMEOUT = 10.0
PREFETCH = 100

UseConnection = Callable[[Connection], Awaitable[None]]


async def keep_connected(
    open_connection: Callable[[], Awaitable[Connection]],
    use: UseConnection,
    *,
    notify: Notify,
    clock: AsyncClock,
    backoff: Backoff | None = None,
    give_up_after: float | None = None,
) -> None:
    """Run `use` on a connection, and again on a new one each time the connection is lost.

    Returns when `use` returns. After `give_up_after` seconds without a connection the last BrokerError is
    raised. None retries for ever, even after a refusal such as a wrong password, because the operator of
    the broker can correct it.
    """
    backoff = backoff or Backoff()
    before = cancellations()
    lost_at = clock.monotonic()
    while True:
        try:
            async with closing(await open_connection()) as connection:
                since = clock.monotonic()
                try:
                    await use(connection)
                    return
                finally:
                    lost_at = clock.monotonic()
                    if lost_at - since >= STEADY:
                        backoff.reset()
        except (BrokerError, TimedOutError) as error:
            raise_if_cancelled(before)
            if give_up_after is not None:
                elapsed = clock.monotonic() - lost_at
                if elapsed >= give_up_after or not isinstance(error, BrokerAwayError):
                    raise
            wait = backoff.next()
            notify(f"{error.message}; retrying in {wait:.1f} s")
            await clock.sleep(wait)


@dataclass(frozen=True, slots=True)
class QueueEndpoint:
    """A queue of a broker, and how to use it.

    `name` is the connection's name in the broker's tools, `notify` gets a text for each event, and
    `observer` measures and traces each message.
    """

    url: BrokerUrl
    queue: str
    name: str
    notify: Notify
    observer: MessagingObserver | None = None

    async def keep_connected(self, use: UseConnection, report: Notify) -> None:
        """Run `use` with the queue declared until cancelled; `report` gets attempts and losses."""
        once = NotifyOnce(self.notify)
        await keep_connected(
            lambda: open_with_queue(self.url, self.queue, name=self.name, notify=once),
            use,
            notify=report,
            clock=SystemClock(asyncio.sleep),
        )


class ReconnectingPublisher:
    """Publishes to one queue while the broker is connected; `publish` raises the reason while it is not.

    Example:

        endpoint = QueueEndpoint(parse_url(url), "hello", name="shop", notify=log.info)
        publisher = ReconnectingPublisher(endpoint)
        async with running(publisher):
            await publisher.publish(b"text", Basic.Properties(content_type="text/plain"))
    """

    def __init__(self, endpoint: QueueEndpoint) -> None:
        self._endpoint = endpoint
        self._open: tuple[Connection, Publisher] | None = None
        self._reason = f"still connecting to the broker at {endpoint.url.address}"

    async def run(self) -> None:
        """Keep connected until cancelled."""
        await self._endpoint.keep_connected(self._use, self._report)

    async def publish(self, body: bytes, properties: Basic.Properties) -> None:
        """Publish a message and wait for the broker's confirm.

        Raises BrokerAwayError while the broker is not connected, BrokerRefusedError, TimedOutError, and
        UsageError for a message that AMQP cannot encode.
        """
        endpoint = self._endpoint
        if endpoint.observer is None:
            await self._publish(body, properties)
            return
        facts = _facts(endpoint.url, body, properties, endpoint.queue)
        with endpoint.observer.publishing(endpoint.queue, facts) as headers:
            properties.headers = {**(properties.headers or {}), **headers}
            await self._publish(body, properties)

    async def _publish(self, body: bytes, properties: Basic.Properties) -> None:
        if self._open is None:
            raise BrokerAwayError(self._reason)
        connection, publisher = self._open
        template = publisher.template(properties, exchange="", routing_key=self._endpoint.queue)
        try:
            await publisher.publish(template, body)
        except BrokerRefusedError as refusal:
            if refusal.code != NO_ROUTE:
                raise
            self._endpoint.notify(f"queue '{self._endpoint.queue}' was deleted: declaring it again")
            await declare(connection, self._endpoint.queue, notify=self._endpoint.notify)
            await publisher.publish(template, body)

    async def _use(self, connection: Connection) -> None:
        publisher = await Publisher.open(connection, timeout=PUBLISH_TIMEOUT)
        try:
            self._open = (connection, publisher)
            self._endpoint.notify(f"connected to the broker at {connection.url.address}")
            raise await publisher.failed()
        finally:
            self._open = None
            await publisher.close()

    def _report(self, text: str) -> None:
        self._reason = text
        self._endpoint.notify(text)


class ReconnectingConsumer:
    """Calls `handle` with each message of one queue, in order, and acknowledges it afterwards.

    If `handle` raises, the message and those after it are requeued, `notify` gets the error, and they
    are delivered again after a pause.

    Example:

        async with running(ReconnectingConsumer(endpoint, handle)):
            ...
    """

    def __init__(self, endpoint: QueueEndpoint, handle: Callable[[Delivery], Awaitable[None]]) -> None:
        self._endpoint = endpoint
        self._handle = handle

    async def run(self) -> None:
        """Consume until cancelled."""
        await self._endpoint.keep_connected(self._use, self._endpoint.notify)

    async def _use(self, connection: Connection) -> None:
        consumer = await Consumer.open(connection, self._endpoint.queue, prefetch=PREFETCH)
        endpoint = self._endpoint
        endpoint.notify(f"consuming queue '{endpoint.queue}' of the broker at {connection.url.address}")
        try:
            while True:
                for delivery in await consumer.take():
                    await self._process(delivery)
                    await consumer.mark_done(1)
        finally:
            await consumer.finish()

    async def _process(self, delivery: Delivery) -> None:
        try:
            endpoint = self._endpoint
            if endpoint.observer is None:
                await self._handle(delivery)
            else:
                properties = delivery.properties
                facts = _facts(endpoint.url, delivery.body, properties, delivery.routing_key)
                with endpoint.observer.processing(endpoint.queue, properties.headers, facts):
                    await self._handle(delivery)
        except Exception as exc:  # no error of the handler ends the consumer
            raise BrokerAwayError(f"handling a message failed: {exc!r}") from exc


def _facts(url: BrokerUrl, body: bytes, properties: Basic.Properties, routing_key: str) -> MessageFacts:
    return MessageFacts(
        url.host,
        url.port,
        len(body),
        routing_key,
        properties.message_id or "",
        properties.correlation_id or "",
    )


@asynccontextmanager
async def running(user: ReconnectingPublisher | ReconnectingConsumer) -> AsyncIterator[None]:
    """Keep `user` connected during the block; close its connection at the end."""
    task = asyncio.create_task(user.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])

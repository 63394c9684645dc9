"""What `consume` does once its command line is understood: take, print, and only then acknowledge.

A message leaves the queue for good when it has been written to standard output; whatever ends the
verb before that (Ctrl-C, a closed pipe, a lost connection) leaves it in the queue.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum

from msctl.amqp.connection import Connection
from msctl.amqp.consumer import MAX_PREFETCH, PREFETCH, AckMode, Consumer, Delivery
from msctl.amqp.queues import NotifyOnce, open_with_queue
from msctl.amqp.reconnecting import keep_connected
from msctl.amqp.url import parse_url
from msctl.cli.output.message_text import RENDERERS, Form
from msctl.cli.output.streams import calm, write_all
from msctl.cli.sending import note
from msctl.clock import SystemClock
from msctl.errors import TimedOutError

STDOUT = 1
WAITING = "Waiting for messages. To exit press CTRL+C"
RECONNECT_FOR = 60.0
"""Seconds for which a lost broker is waited for."""
SETTLE_AFTER = 1.0
"""Seconds without a message after which what a limit keeps unacknowledged is acknowledged after all."""
_EMPTY_AGAIN = 0.1
"""Seconds between looks at a queue that still has messages for somebody."""
_BATCH_BYTES = 64 * 1024


class Ack(StrEnum):
    """What happens to a message after it was printed."""

    AUTO = "auto"
    MANUAL = "manual"
    REJECT = "reject"
    REQUEUE = "requeue"


_SETTLEMENTS = {
    Ack.AUTO: AckMode.ACK,
    Ack.MANUAL: AckMode.ACK,
    Ack.REJECT: AckMode.REJECT,
    Ack.REQUEUE: AckMode.REQUEUE,
}


@dataclass(frozen=True, slots=True)
class ConsumeRequest:
    """One run of `consume`; `idle_timeout` in seconds. A `prefetch` of None fits the way of acknowledging."""

    url: str = field(repr=False)
    queue: str
    count: int | None
    exit_on_empty: bool
    idle_timeout: float | None
    ack: Ack
    prefetch: int | None
    form: Form


@dataclass(frozen=True, slots=True)
class ConsumeResult:
    """How many messages were printed."""

    received: int


async def consume_messages(request: ConsumeRequest) -> ConsumeResult:
    """Print messages until the request is met or the user interrupts.

    Raises BrokerError, TimedOutError where `count` was not reached within `idle_timeout`, and
    BrokenPipeError where nobody reads standard output any more.
    """
    url = parse_url(request.url)
    once = NotifyOnce(note)

    async def connect() -> Connection:
        return await open_with_queue(url, request.queue, name="msctl consume", notify=once)

    first = [await connect()]  # the first attempt is not retried: a script wants to know at once

    async def next_connection() -> Connection:
        return first.pop() if first else await connect()

    run = _Run(request, once)
    try:
        await keep_connected(
            next_connection,
            run.session,
            notify=note,
            clock=SystemClock(asyncio.sleep),
            give_up_after=RECONNECT_FOR,
        )
    except asyncio.CancelledError:
        calm()
    return ConsumeResult(run.received)


class _Run:
    """One run of the verb, across however many connections it takes."""

    def __init__(self, request: ConsumeRequest, notify: NotifyOnce) -> None:
        self._request = request
        self._notify = notify
        self._render = RENDERERS[request.form]
        self._last = asyncio.get_running_loop().time()
        self.received = 0

    async def session(self, connection: Connection) -> None:
        """Consume on one connection, until the request is met."""
        done = False
        while not done:
            consumer = await Consumer.open(
                connection,
                self._request.queue,
                prefetch=self._prefetch(),
                limit=self._remaining,
                mode=_SETTLEMENTS[self._request.ack],
            )
            self._notify(WAITING)
            try:
                done = await self._drain(consumer)
            finally:
                await consumer.finish()
                if consumer.unacked:
                    left = consumer.unacked
                    note(f"{left} messages were printed but not acknowledged: they will come again")

    @property
    def _remaining(self) -> int | None:
        return None if self._request.count is None else self._request.count - self.received

    def _prefetch(self) -> int:
        request = self._request
        if request.prefetch is not None:
            return request.prefetch
        if request.ack is Ack.MANUAL:
            return 1
        if request.ack is Ack.REQUEUE and request.count is not None:
            return min(request.count, MAX_PREFETCH)
        return PREFETCH

    async def _drain(self, consumer: Consumer) -> bool:
        """Print what comes. True: the request is met; False: go on with a new consumer."""
        while self._remaining != 0:
            if self._request.ack is Ack.REQUEUE and consumer.is_full:
                note(f"{self.received} messages were shown and put back; --prefetch N looks at more")
                return True
            if self._request.exit_on_empty and not consumer.at_hand and await consumer.is_empty():
                return True
            try:
                async with asyncio.timeout(self._patience(consumer)):
                    deliveries = await consumer.take()
            except TimeoutError:
                if self._idle():
                    return True
                if self._holds_back(consumer):
                    return False
                continue
            await self._print(consumer, deliveries)
            self._last = asyncio.get_running_loop().time()
        return True

    def _patience(self, consumer: Consumer) -> float | None:
        """Seconds to wait for the next message before something else is to be done."""
        quiet = asyncio.get_running_loop().time() - self._last
        waits = []
        if self._request.idle_timeout is not None:
            waits.append(self._request.idle_timeout - quiet)
        if self._request.exit_on_empty:
            waits.append(_EMPTY_AGAIN)
        if self._holds_back(consumer):
            waits.append(SETTLE_AFTER)
        return max(0.0, min(waits)) if waits else None

    def _idle(self) -> bool:
        """Whether no message has come for as long as the user allows. Raises TimedOutError where
        a number of messages was asked for and not reached."""
        limit = self._request.idle_timeout
        if limit is None or asyncio.get_running_loop().time() - self._last < limit:
            return False
        if self._request.count is not None:
            raise TimedOutError(
                f"no message came for {limit:g} s: {self.received} of {self._request.count} were received"
            )
        return True

    def _holds_back(self, consumer: Consumer) -> bool:
        """Whether printed messages wait for their acknowledgement only because of the limit."""
        return (
            self._request.count is not None and self._request.ack is not Ack.REQUEUE and consumer.unacked > 0
        )

    async def _print(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        batch: list[bytes] = []
        size = 0
        for position, delivery in enumerate(deliveries, 1):
            batch.append(self._render(delivery))
            size += len(batch[-1])
            if size >= _BATCH_BYTES or position == len(deliveries) or self._request.ack is Ack.MANUAL:
                await write_all(STDOUT, b"".join(batch))
                self.received += len(batch)
                await consumer.mark_done(len(batch))
                batch, size = [], 0

"""Receives messages, prints them, and only then acknowledges them.

Invariant: a message is acknowledged after it was written to standard output. Ctrl-C, a closed pipe or a
lost connection before that leaves it in the queue; a lost connection after that prints it again.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from dataclasses import dataclass, field

from msctl.amqp.connection import Connection
from msctl.amqp.consumer import MAX_PREFETCH, PREFETCH, AckMode, Consumer
from msctl.amqp.delivery import Delivery
from msctl.amqp.queues import NotifyOnce, QueueUse, open_with_queue
from msctl.amqp.reconnecting import keep_connected
from msctl.amqp.url import parse_url
from msctl.cli.messaging.streams import note, uncancel, write_all
from msctl.cli.options.message_options import Ack, MessageFormat
from msctl.cli.output.live_line import LiveLine
from msctl.cli.output.message_format import RENDERERS
from msctl.clock import SystemClock
from msctl.errors import MsctlError, TimedOutError

STDOUT = 1
WAITING = "Waiting for messages. To exit press CTRL+C"
RECONNECT_FOR = 60.0
"""Seconds to try to reconnect to a lost broker."""
SETTLE_AFTER = 1.0
"""Seconds without a message after which printed messages below a limit are acknowledged."""
_EMPTY_AGAIN = 0.1
"""Seconds between checks of a queue that is not empty yet."""
_BATCH_BYTES = 64 * 1024
_SHOW_EVERY = 0.5
"""Seconds between two updates of the live line."""

_ACK_MODES = {
    Ack.AUTO: AckMode.ACK,
    Ack.MANUAL: AckMode.ACK,
    Ack.REJECT: AckMode.REJECT,
    Ack.REQUEUE: AckMode.REQUEUE,
}


@dataclass(frozen=True, slots=True)
class ConsumeRequest:
    """One run of `consume`; `idle_timeout` in seconds. A `prefetch` of None is chosen from `ack`."""

    url: str = field(repr=False)
    queue: str
    count: int | None
    exit_on_empty: bool
    idle_timeout: float | None
    ack: Ack
    prefetch: int | None
    output: MessageFormat
    durable: bool = False


@dataclass(frozen=True, slots=True)
class ConsumeResult:
    """The number of messages that were printed, and whether Ctrl-C ended the run."""

    received: int
    interrupted: bool


async def consume_messages(request: ConsumeRequest) -> ConsumeResult:
    """Print messages until the request is met or the user interrupts.

    Raises BrokerError, TimedOutError if `count` was not reached within `idle_timeout`, and
    BrokenPipeError if standard output was closed.
    """
    url = parse_url(request.url)
    line = LiveLine(sys.stderr)

    def tell(text: str) -> None:
        line.erase()
        note(text)

    once = NotifyOnce(tell)

    async def connect(*, again: bool) -> Connection:
        use = QueueUse(request.queue, durable=request.durable, known=again)
        return await open_with_queue(url, use, name="msctl consume", notify=tell if again else once)

    first = [await connect(again=False)]  # not retried: a script wants to know at once

    async def next_connection() -> Connection:
        if first:
            return first.pop()
        connection = await connect(again=True)
        tell(f"connected to the broker at {url.address} again")
        return connection

    run = _Run(request, once, line)
    showing = asyncio.create_task(run.show()) if line.enabled else None
    interrupted = False
    try:
        await keep_connected(
            next_connection,
            run.session,
            notify=tell,
            clock=SystemClock(asyncio.sleep),
            give_up_after=RECONNECT_FOR,
        )
    except asyncio.CancelledError:
        uncancel()
        interrupted = True
    finally:
        if showing is not None:
            showing.cancel()
            await asyncio.wait([showing])
        line.erase()
    return ConsumeResult(run.received, interrupted)


class _Run:
    """One run of `consume`, over one or more connections."""

    def __init__(self, request: ConsumeRequest, notify: NotifyOnce, line: LiveLine) -> None:
        self._request = request
        self._notify = notify
        self._line = line
        self._consumer: Consumer | None = None
        self._writing = False
        self._render = RENDERERS[request.output]
        self._last = asyncio.get_running_loop().time()
        self.received = 0

    async def session(self, connection: Connection) -> None:
        """Consume on one connection until the request is met."""
        done = False
        while not done:
            consumer = await Consumer.open(
                connection,
                self._request.queue,
                prefetch=self._prefetch(),
                limit=self._remaining,
                mode=_ACK_MODES[self._request.ack],
            )
            self._notify(WAITING)
            self._consumer = consumer
            try:
                done = await self._drain(consumer)
            finally:
                self._consumer = None
                await consumer.finish()
                if consumer.unacked:
                    left = consumer.unacked
                    self._line.erase()
                    note(f"{left} messages were printed but not acknowledged; they will be redelivered")

    async def show(self) -> None:
        """Show on the terminal how many messages were received, and how many wait in the queue."""
        while True:
            await asyncio.sleep(_SHOW_EVERY)
            consumer, waiting = self._consumer, 0
            if consumer is None:
                continue
            with suppress(MsctlError):  # the session says it, and connects again
                waiting = await consumer.count_ready()
            if consumer is self._consumer and not self._writing:
                limit = "" if self._request.count is None else f" of {self._request.count:,}"
                self._line.draw(f"{self.received:,}{limit} received, {waiting:,} waiting in the queue")

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
        """Print messages; True when the request is met, False to continue with a new consumer."""
        while self._remaining != 0:
            if self._request.ack is Ack.REQUEUE and consumer.is_full:
                self._line.erase()
                note(f"{self.received} messages were printed and requeued; use --prefetch N to print more")
                return True
            if self._request.exit_on_empty and not consumer.at_hand and await consumer.is_empty():
                return True
            try:
                async with asyncio.timeout(self._wait_time(consumer)):
                    deliveries = await consumer.take()
            except TimeoutError:
                if self._is_idle():
                    return True
                if self._has_pending_acks(consumer):
                    return False
                continue
            await self._print(consumer, deliveries)
            self._last = asyncio.get_running_loop().time()
        return True

    def _wait_time(self, consumer: Consumer) -> float | None:
        """Return the seconds to wait for a message; None: without limit."""
        idle = asyncio.get_running_loop().time() - self._last
        waits = []
        if self._request.idle_timeout is not None:
            waits.append(self._request.idle_timeout - idle)
        if self._request.exit_on_empty:
            waits.append(_EMPTY_AGAIN)
        if self._has_pending_acks(consumer):
            waits.append(SETTLE_AFTER)
        return max(0.0, min(waits)) if waits else None

    def _is_idle(self) -> bool:
        """Whether the idle timeout is over. Raises TimedOutError if `count` was not reached."""
        limit = self._request.idle_timeout
        if limit is None or asyncio.get_running_loop().time() - self._last < limit:
            return False
        if self._request.count is not None:
            raise TimedOutError(
                f"no message for {limit:g} s: received {self.received} of {self._request.count}"
            )
        return True

    def _has_pending_acks(self, consumer: Consumer) -> bool:
        """Whether printed messages are unacknowledged only because of the limit."""
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
                self._line.erase()
                self._writing = True
                try:
                    await write_all(STDOUT, b"".join(batch))
                finally:
                    self._writing = False
                self.received += len(batch)
                await consumer.mark_done(len(batch))
                batch, size = [], 0

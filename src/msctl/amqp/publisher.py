"""Publishing with confirms, many at a time, in order, and with an exact stats of each.

Waiting for each confirm in turn costs a round trip per message; here up to a window of messages is
under way. A message that the broker returns (nobody takes it), refuses or never confirms is named
by its number. One message id is never under way twice: a return can be told apart by nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections import deque
from dataclasses import dataclass, field
from functools import partial

import aiormq.exceptions
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from pamqp.commands import Basic

from msctl.amqp.connection import Connection, end_of
from msctl.amqp.errors import NO_ROUTE, BrokerAwayError, BrokerRefusedError
from msctl.amqp.frames import PublishTemplate
from msctl.errors import MsctlError, TimedOutError, UsageError

WINDOW = 1000
"""Messages under way at most."""
WINDOW_BYTES = 1024 * 1024
"""Bytes of bodies under way at most; a larger body travels alone, so that its refusal is only its own."""
MAX_BODY = 512 * 1024 * 1024
"""RabbitMQ's own ceiling for max_message_size; no larger body is ever read or sent."""
CONFIRM_TIMEOUT = 30.0
_FLUSH_BYTES = 64 * 1024
_REASONS_KEPT = 10


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A message that is not in any queue, and why; `number` counts publishes from 1."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class PublishStats:
    """What became of everything that was published.

    sent = confirmed + refused + unconfirmed, but without confirms nothing is ever confirmed.
    `refusals` holds the first few of the refused; `unconfirmed` those of which the broker has not
    said what became of them: they may or may not have arrived.
    """

    sent: int = 0
    confirmed: int = 0
    refused: int = 0
    refusals: tuple[RefusedMessage, ...] = ()
    unconfirmed: tuple[int, ...] = ()


@dataclass(slots=True)
class _Pending:
    number: int
    size: int
    message_id: str
    answer: asyncio.Future[object]


@dataclass(slots=True)
class _Tally:
    sent: int = 0
    confirmed: int = 0
    refused: int = 0
    refusals: list[RefusedMessage] = field(default_factory=list)


class Publisher:
    """Publishes on a channel of its own; `open` makes one.

    It drives aiormq's channel below `basic_publish`: the channel still matches confirms and returns,
    but frames are encoded from a template and written many at a time.
    """

    def __init__(
        self,
        connection: Connection,
        channel: Channel,
        *,
        confirms: bool,
        window: int = WINDOW,
        window_bytes: int = WINDOW_BYTES,
        timeout: float = CONFIRM_TIMEOUT,
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._confirms = confirms
        self._window = window
        self._window_bytes = window_bytes
        self._timeout = timeout
        self._pending: dict[int, _Pending] = {}
        self._pending_bytes = 0
        self._pending_ids: set[str] = set()
        self._buffer: deque[bytes] = deque()
        self._tally = _Tally()
        self._failure: MsctlError | None = None
        self._failed = asyncio.Event()
        self._written = asyncio.Event()
        self._progress = asyncio.Event()
        self._turn = asyncio.Lock()
        self._ids = map("{:024x}".format, itertools.count())
        self._id_prefix = uuid.uuid4().hex[:8]
        self._writer = asyncio.create_task(self._write())
        self._watch = asyncio.create_task(self._watch_channel())

    @classmethod
    async def open(
        cls,
        connection: Connection,
        *,
        confirms: bool = True,
        window: int = WINDOW,
        window_bytes: int = WINDOW_BYTES,
        timeout: float = CONFIRM_TIMEOUT,
    ) -> Publisher:
        """Raises BrokerError and its kinds. `timeout`: seconds without any answer that are too long."""
        channel = await connection.channel(confirms=confirms)
        return cls(
            connection, channel, confirms=confirms, window=window, window_bytes=window_bytes, timeout=timeout
        )

    def template(self, properties: Basic.Properties, *, exchange: str, routing_key: str) -> PublishTemplate:
        """What messages of one kind share. Raises UsageError where it does not fit AMQP's fields."""
        try:
            return PublishTemplate.make(
                properties,
                exchange=exchange,
                routing_key=routing_key,
                mandatory=self._confirms,
                channel=self._channel.number,
                frame_max=self._connection.frame_max,
            )
        except ValueError as exc:
            raise UsageError(f"the message cannot be sent: {exc}") from exc

    async def publish_nowait(self, template: PublishTemplate, body: bytes) -> asyncio.Future[object]:
        """Send one message as soon as the window allows; the future holds the broker's answer.

        The future need not be awaited: `stats` tells the same. Raises, without sending anything,
        UsageError for a body that no broker takes, TimedOutError where the window does not move, and
        what ended the channel.
        """
        if len(body) > MAX_BODY:
            raise UsageError(f"a message of {len(body)} bytes is larger than any broker takes ({MAX_BODY})")
        async with self._turn:
            while self._failure is None and not self._has_room(template, len(body)):
                await self._wait_for_progress()
            if self._failure is not None:
                raise self._failure
            return self._send(template, body)

    async def publish(self, template: PublishTemplate, body: bytes) -> None:
        """Send one message and return when the broker has confirmed it. Raises BrokerError and its kinds."""
        answer = await self.publish_nowait(template, body)
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.shield(answer)
        except TimeoutError:
            raise await self._no_answer() from None
        except aiormq.exceptions.DeliveryError as exc:
            raise BrokerRefusedError(_why(exc), code=_code(exc), text=_why(exc)) from exc

    async def drain(self) -> None:
        """Return when nothing is under way. Raises TimedOutError, and what ended the channel early."""
        while self._failure is None and (self._pending or self._buffer):
            await self._wait_for_progress()
        if self._failure is None and not self._confirms:
            # Without confirms a refusal is heard only as the channel's end: one round trip behind
            # everything that was sent is enough to hear it.
            await self._connection.ask(self._channel.basic_qos(prefetch_count=0), self._timeout)
        if self._failure is not None:
            raise self._failure

    async def failed(self) -> MsctlError:
        """Wait until no more can be published, and say why."""
        await self._failed.wait()
        assert self._failure is not None  # noqa: S101 - set before the event
        return self._failure

    @property
    def refused(self) -> int:
        """How many messages the broker has refused so far."""
        return self._tally.refused

    def stats(self) -> PublishStats:
        tally = self._tally
        return PublishStats(
            sent=tally.sent,
            confirmed=tally.confirmed,
            refused=tally.refused,
            refusals=tuple(tally.refusals),
            unconfirmed=tuple(sorted(p.number for p in self._pending.values())),
        )

    async def close(self) -> None:
        """Stop; what is under way stays in the stats as unconfirmed."""
        self._writer.cancel()
        self._watch.cancel()
        await asyncio.wait([self._writer, self._watch])
        if self._connection.is_open and not self._channel.is_closed:
            with contextlib.suppress(MsctlError):
                await self._connection.ask(self._channel.close(), 2.0)

    def _has_room(self, template: PublishTemplate, size: int) -> bool:
        if template.own_id is not None and template.own_id in self._pending_ids:
            return False
        if not self._pending:
            return True
        return len(self._pending) < self._window and self._pending_bytes + size <= self._window_bytes

    def _send(self, template: PublishTemplate, body: bytes) -> asyncio.Future[object]:
        channel, tally = self._channel, self._tally
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        message_id = template.own_id or self._id_prefix + next(self._ids)
        tally.sent += 1
        channel.delivery_tag += 1
        tag = channel.delivery_tag
        self._pending[tag] = _Pending(tally.sent, len(body), message_id, answer)
        self._pending_bytes += len(body)
        self._pending_ids.add(message_id)
        if self._confirms:
            channel.confirmations[tag] = answer
            channel.message_id_delivery_tag[message_id] = tag
        answer.add_done_callback(partial(self._answered, tag))
        self._buffer.append(template.encode(body, message_id))
        self._written.set()
        return answer

    def _answered(self, tag: int, answer: asyncio.Future[object]) -> None:
        """The broker's answer to one message, or the end of all waiting for it."""
        pending, tally = self._pending[tag], self._tally
        error = None if answer.cancelled() else answer.exception()
        if isinstance(error, BrokerAwayError | TimedOutError) or answer.cancelled():
            return  # it stays pending: nobody knows
        del self._pending[tag]
        self._pending_bytes -= pending.size
        self._pending_ids.discard(pending.message_id)
        self._channel.message_id_delivery_tag.pop(pending.message_id, None)
        if error is None:
            tally.confirmed += self._confirms
        else:
            tally.refused += 1
            if len(tally.refusals) < _REASONS_KEPT:
                tally.refusals.append(RefusedMessage(pending.number, _why(error)))
        self._progress.set()

    async def _wait_for_progress(self) -> None:
        self._progress.clear()
        try:
            async with asyncio.timeout(self._timeout):
                await self._progress.wait()
        except TimeoutError:
            raise await self._no_answer() from None

    async def _no_answer(self) -> TimedOutError:
        at = self._connection.url.address
        if await self._connection.is_blocked():
            return TimedOutError(
                f"the broker at {at} takes no messages now: it is low on memory or disk space",
                hint="see its log and `rabbitmq-diagnostics alarms`",
            )
        return TimedOutError(f"the broker at {at} did not confirm anything for {self._timeout:g} s")

    async def _write(self) -> None:
        """Hand what is buffered to the connection, as much at a time as there is."""
        loop = asyncio.get_running_loop()
        written = 0
        while True:
            await self._written.wait()
            self._written.clear()
            while self._buffer:
                chunk, size = [], 0
                while self._buffer and size < _FLUSH_BYTES:
                    chunk.append(self._buffer.popleft())
                    size += len(chunk[-1])
                drained = loop.create_future()
                await self._channel.write_queue.put(
                    ChannelFrame(payload=b"".join(chunk), should_close=False, drain_future=drained)
                )
                await drained
                if not self._confirms:
                    for tag in range(written + 1, written + 1 + len(chunk)):
                        self._pending[tag].answer.set_result(None)
                    written += len(chunk)
            self._progress.set()

    async def _watch_channel(self) -> None:
        """Settle everything that is under way when the channel or the connection ends."""
        error = await self._connection.reason(await end_of(self._channel))
        self._fail(error)

    def _fail(self, error: MsctlError) -> None:
        self._failure = error
        self._writer.cancel()
        waiting = list(self._pending.values())
        # A refusal that ends the channel names no message; it is certain whose it is only where one
        # alone was under way.
        certain = isinstance(error, BrokerRefusedError) and len(waiting) == 1
        for pending in waiting:
            if not pending.answer.done():
                pending.answer.set_exception(error if certain else BrokerAwayError(error.message))
        self._failed.set()
        self._progress.set()


def _why(error: BaseException) -> str:
    if isinstance(error, aiormq.exceptions.PublishError):
        message = error.message
        if message is not None and isinstance(message.delivery, Basic.Return):
            exchange = message.delivery.exchange
            where = f"exchange '{exchange}'" if exchange else "the default exchange"
            return f"no queue takes routing key '{message.delivery.routing_key}' at {where}"
        return "no queue takes it"
    if isinstance(error, aiormq.exceptions.DeliveryError):
        return "the broker did not take it (nack): the queue is full or has failed"
    if isinstance(error, BrokerRefusedError):
        return error.text
    return str(error)


def _code(error: BaseException) -> int:
    return NO_ROUTE if isinstance(error, aiormq.exceptions.PublishError) else 0

"""Publish in order with pipelined confirms, and report the outcome of each message.

Waiting for each confirm costs a round trip per message, so up to a window of messages is in flight.
Messages that are returned, refused or never confirmed are reported by number. The same message id is
never in flight twice, because only the id tells which message a return belongs to.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from pamqp.commands import Basic

from msctl.amqp.confirms import Confirms, Returned
from msctl.amqp.connection import Connection, end_of
from msctl.amqp.errors import NO_ROUTE, BrokerAwayError, BrokerRefusedError
from msctl.amqp.frames import PublishTemplate
from msctl.errors import BrokerError, MsctlError, TimedOutError, UsageError

WINDOW = 1000
"""Messages in flight at most."""
WINDOW_BYTES = 1024 * 1024
"""Bytes of bodies in flight at most; a larger body is sent alone, so that its refusal is unambiguous."""
MAX_BODY = 512 * 1024 * 1024
"""RabbitMQ's upper bound of max_message_size; larger bodies are neither read nor sent."""
CONFIRM_TIMEOUT = 30.0
_NOTICE_AFTER = 1.0
"""Seconds without progress after which a blocked publisher says why it waits."""
_FLUSH_BYTES = 64 * 1024
_REASONS_KEPT = 10


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A message that reached no queue, and why; `number` counts publishes from 1."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class PublishStats:
    """The outcome of all publishes.

    sent = confirmed + refused + unconfirmed; without confirms, `confirmed` stays 0. `refusals` holds the
    first few refused messages. `unconfirmed` are the numbers of the messages without an answer: they may
    or may not have arrived.
    """

    sent: int = 0
    confirmed: int = 0
    refused: int = 0
    refusals: tuple[RefusedMessage, ...] = ()
    unconfirmed: tuple[int, ...] = ()


@dataclass(slots=True)
class _Pending:
    """A message in flight; `answer` is for whoever waits for its confirm."""

    body: bytes
    own_id: str | None
    answer: asyncio.Future[None] | None = None


class Publisher:
    """Publishes on its own channel; `open` creates one.

    It uses aiormq's channel below `basic_publish`: frames are encoded from a template and written in
    batches, and confirms come from the connection's FrameStream. Messages are numbered from 1; with confirms
    a number is the delivery tag.
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
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self._connection = connection
        self._notify = notify
        self._channel = channel
        self._confirms = confirms
        self._window = window
        self._window_bytes = window_bytes
        self._timeout = timeout
        self._pending: dict[int, _Pending] = {}
        self._pending_bytes = 0
        self._oldest = 1
        """No message before this number is in flight."""
        self._own_ids: dict[str, int] = {}
        """Messages in flight with an id of the user's."""
        self._buffer: deque[bytes] = deque()
        self._sent = self._confirmed = self._refused = 0
        self._refusals: list[RefusedMessage] = []
        self._failure: MsctlError | None = None
        self._failed = asyncio.Event()
        self._written = asyncio.Event()
        self._progress = asyncio.Event()
        self._turn = asyncio.Lock()
        self._id_prefix = uuid.uuid4().hex[:8]
        if confirms:
            sink = Confirms(self._on_answer, self._on_return, self._progress.set)
            connection.frames.attach(channel.number, sink)
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
        notify: Callable[[str], None] | None = None,
    ) -> Publisher:
        """Open a channel. `timeout` is in seconds without any confirm. Raises BrokerError.

        `notify` is told once why messages wait when the broker blocks publishers.
        """
        channel = await connection.channel(confirms=confirms)
        return cls(
            connection,
            channel,
            confirms=confirms,
            window=window,
            window_bytes=window_bytes,
            timeout=timeout,
            notify=notify,
        )

    def template(self, properties: Basic.Properties, *, exchange: str, routing_key: str) -> PublishTemplate:
        """Encode what messages of one kind share. Raises UsageError for values that AMQP cannot encode."""
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

    def offer(self, template: PublishTemplate, body: bytes) -> bool:
        """Send one message if that is possible at once; otherwise `publish_nowait` waits or says why not."""
        if (
            self._failure is not None
            or len(body) > MAX_BODY
            or self._turn.locked()
            or not self._has_room(template, len(body))
        ):
            return False
        self._send(template, body, None)
        return True

    async def publish_nowait(self, template: PublishTemplate, body: bytes) -> None:
        """Send one message as soon as the window allows, without waiting for its confirm.

        Raises, before sending, UsageError for a body that is too large, TimedOutError if the window does
        not move, and the error that ended the channel.
        """
        await self._send_in_turn(template, body, None)

    async def publish(self, template: PublishTemplate, body: bytes) -> None:
        """Send one message and wait for its confirm. Raises BrokerError and TimedOutError."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever does not wait until the end must not be told of an error that nobody retrieved.
        answer.add_done_callback(_retrieve)
        await self._send_in_turn(template, body, answer)
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.shield(answer)
        except TimeoutError:
            raise await self._no_answer() from None

    async def _send_in_turn(
        self, template: PublishTemplate, body: bytes, answer: asyncio.Future[None] | None
    ) -> None:
        if len(body) > MAX_BODY:
            raise UsageError(f"a message of {len(body)} bytes exceeds RabbitMQ's maximum of {MAX_BODY}")
        async with self._turn:
            while self._failure is None and not self._has_room(template, len(body)):
                await self._wait_for_progress()
            if self._failure is not None:
                raise self._failure
            self._send(template, body, answer)

    async def drain(self) -> None:
        """Wait until nothing is in flight. Raises TimedOutError, and the error that ended the channel."""
        while self._failure is None and (self._pending or self._buffer):
            await self._wait_for_progress()
        if self._failure is None and not self._confirms:
            # Without confirms, a refusal only shows as the end of the channel. One round trip after the
            # last publish makes sure that it has arrived.
            await self._connection.ask(self._channel.basic_qos(prefetch_count=0), self._timeout)
        if self._failure is not None:
            raise self._failure

    async def failed(self) -> MsctlError:
        """Wait until publishing has become impossible and return the reason."""
        await self._failed.wait()
        assert self._failure is not None  # noqa: S101 - set before the event
        return self._failure

    @property
    def refused(self) -> int:
        """The number of messages that the broker has refused."""
        return self._refused

    @property
    def sent(self) -> int:
        """How many messages have been published so far."""
        return self._sent

    def stats(self) -> PublishStats:
        return PublishStats(
            sent=self._sent,
            confirmed=self._confirmed,
            refused=self._refused,
            refusals=tuple(self._refusals),
            unconfirmed=tuple(sorted(self._pending)),
        )

    def in_flight(self) -> list[tuple[int, bytes]]:
        """The messages without an answer, each with its number, in order."""
        return [(number, self._pending[number].body) for number in sorted(self._pending)]

    async def close(self) -> None:
        """Close the channel; messages in flight stay in `stats` as unconfirmed."""
        self._writer.cancel()
        self._watch.cancel()
        self._connection.frames.detach(self._channel.number)
        await asyncio.wait([self._writer, self._watch])
        if self._connection.is_open and not self._channel.is_closed:
            with contextlib.suppress(MsctlError):
                await self._connection.ask(self._channel.close(), 2.0)

    def _has_room(self, template: PublishTemplate, size: int) -> bool:
        if not self._pending:
            return True
        if template.own_id is not None and template.own_id in self._own_ids:
            return False
        return len(self._pending) < self._window and self._pending_bytes + size <= self._window_bytes

    def _send(self, template: PublishTemplate, body: bytes, answer: asyncio.Future[None] | None) -> None:
        self._sent += 1
        number = self._sent
        own_id = template.own_id
        self._pending[number] = _Pending(body, own_id, answer)
        self._pending_bytes += len(body)
        if own_id is not None:
            self._own_ids[own_id] = number
        self._buffer.append(template.encode(body, own_id or f"{self._id_prefix}{number:024x}"))
        self._written.set()

    def _on_answer(self, tag: int, multiple: bool, taken: bool) -> None:
        """The broker has answered for one message, or for all up to it."""
        pending = self._pending
        tag = min(tag, self._sent)
        for number in range(self._oldest, tag + 1) if multiple else (tag,):
            if (one := pending.pop(number, None)) is not None:
                if taken:
                    self._forget(one, None)
                    self._confirmed += 1
                else:
                    self._refuse(number, one, _NACKED, 0)
        if multiple or tag == self._oldest:
            self._oldest = max(self._oldest, tag + 1)

    def _on_return(self, returned: Returned) -> None:
        """A message reached no queue; its confirm follows, and finds it answered."""
        number = self._number_of(returned.message_id)
        one = None if number is None else self._pending.pop(number, None)
        if number is not None and one is not None:
            self._refuse(number, one, _unroutable(returned), NO_ROUTE)

    def _number_of(self, message_id: str | None) -> int | None:
        if message_id is None:
            return None
        if message_id in self._own_ids:
            return self._own_ids[message_id]
        digits = message_id.removeprefix(self._id_prefix)
        try:
            return int(digits, 16) if digits != message_id else None
        except ValueError:
            return None

    def _refuse(self, number: int, one: _Pending, reason: str, code: int) -> None:
        self._refused += 1
        if len(self._refusals) < _REASONS_KEPT:
            self._refusals.append(RefusedMessage(number, reason))
        self._forget(one, BrokerRefusedError(reason, code=code, text=reason))

    def _forget(self, one: _Pending, error: BrokerError | None) -> None:
        """Free the room of a message that was answered, and tell who waits for it."""
        self._pending_bytes -= len(one.body)
        if one.own_id is not None:
            self._own_ids.pop(one.own_id, None)
        if one.answer is not None and not one.answer.done():
            if error is None:
                one.answer.set_result(None)
            else:
                one.answer.set_exception(error)

    async def _wait_for_progress(self) -> None:
        self._progress.clear()
        try:
            async with asyncio.timeout(self._timeout):
                if self._notify is not None:
                    await self._say_why_it_waits(self._notify)
                await self._progress.wait()
        except TimeoutError:
            raise await self._no_answer() from None

    async def _say_why_it_waits(self, notify: Callable[[str], None]) -> None:
        """Wait for progress for a moment; if there is none and the broker blocks publishers, say so once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_NOTICE_AFTER):
                await self._progress.wait()
        if not self._progress.is_set() and await self._connection.is_blocked():
            self._notify = None
            message, hint = self._blocked()
            notify(f"waiting for up to {self._timeout:g} s: {message}; {hint}")

    def _blocked(self) -> tuple[str, str]:
        """What the broker does that blocks publishers, and what to do about it."""
        at = self._connection.url.address
        if self._connection.is_embedded_broker:
            return (
                f"the broker at {at} blocks publishers: its messages exceed the memory limit, "
                "or its disk is full",
                "msctl status names the alarm, msctl queues the queues to consume or purge",
            )
        return (
            f"the broker at {at} blocks publishers: it is low on memory or disk space",
            "see its log and `rabbitmq-diagnostics alarms`",
        )

    async def _no_answer(self) -> TimedOutError:
        if await self._connection.is_blocked():
            message, hint = self._blocked()
            return TimedOutError(message, hint=hint)
        at = self._connection.url.address
        return TimedOutError(f"the broker at {at} did not confirm anything for {self._timeout:g} s")

    async def _write(self) -> None:
        """Write the buffered frames to the connection in batches."""
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
                    for number in range(written + 1, written + 1 + len(chunk)):
                        self._forget(self._pending.pop(number), None)
                    written += len(chunk)
            self._progress.set()

    async def _watch_channel(self) -> None:
        """Fail everything in flight when the channel or the connection ends."""
        error = await self._connection.reason(await end_of(self._channel))
        self._fail(error)

    def _fail(self, error: MsctlError) -> None:
        self._failure = error
        self._writer.cancel()
        self._connection.frames.detach(self._channel.number)
        waiting = list(self._pending.items())
        # A refusal that closes the channel names no message. Only a single message in flight is certainly
        # the refused one.
        if isinstance(error, BrokerRefusedError) and len(waiting) == 1:
            ((number, one),) = waiting
            del self._pending[number]
            self._refuse(number, one, error.text, error.code)
        for _, one in waiting:  # unknown outcome: they stay pending
            if one.answer is not None and not one.answer.done():
                one.answer.set_exception(BrokerAwayError(error.message))
        self._failed.set()
        self._progress.set()


_NACKED = "the broker refused it (nack): the queue is full or has failed"


def _unroutable(returned: Returned) -> str:
    where = f"exchange '{returned.exchange}'" if returned.exchange else "the default exchange"
    return f"routing key '{returned.routing_key}' matches no queue at {where}"


def _retrieve(answer: asyncio.Future[None]) -> None:
    if not answer.cancelled():
        answer.exception()

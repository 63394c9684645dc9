"""Reads messages, publishes them, and accounts for every one: confirmed, refused or unknown."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from pamqp.commands import Basic

from msctl.aio import first_of
from msctl.amqp.connection import Connection
from msctl.amqp.errors import BrokerAwayError
from msctl.amqp.publisher import MAX_BODY, Publisher, PublishStats
from msctl.amqp.queues import QueueUse, open_with_queue, require_exchange
from msctl.amqp.reconnecting import keep_connected
from msctl.amqp.url import parse_url
from msctl.cli.messaging.message_source import MessageSource
from msctl.cli.messaging.send_account import SendAccount
from msctl.cli.messaging.streams import lines, note, read_all, uncancel, unreadable
from msctl.cli.options.message_options import PERSISTENT, MessageProperties
from msctl.cli.output.progress import show_progress
from msctl.clock import SystemClock
from msctl.errors import BrokerError, MsctlError, TimedOutError, UsageError

STDIN = 0
_BATCH = 1000
_LAST_CONFIRMS = 1.0
"""Seconds to wait for outstanding confirms after Ctrl-C."""


@dataclass(frozen=True, slots=True)
class SendRequest:
    """One run of `send`. The source is `text`, else `file`, else standard input.

    `queue` is declared first (None: no queue). Times are in seconds, `rate` in messages per second.
    """

    url: str = field(repr=False)
    queue: str | None
    exchange: str
    key: str
    properties: MessageProperties
    text: bytes | None
    file: Path | None
    by_line: bool
    count: int
    rate: float | None
    confirm: bool
    timeout: float
    durable: bool = False

    @property
    def use(self) -> QueueUse | None:
        """The queue to declare."""
        if self.queue is None:
            return None
        persistent = self.properties.values.get("delivery_mode") == PERSISTENT
        return QueueUse(self.queue, durable=self.durable, persistent=persistent)

    @property
    def many(self) -> bool:
        return self.by_line or self.count > 1

    @property
    def noun(self) -> str:
        return "line" if self.by_line else "message"


@dataclass(frozen=True, slots=True)
class SendResult:
    """The outcome of every message, the body if there was one message, and whether Ctrl-C ended it.

    `repeated` are the numbers of messages that were sent again over another connection.
    """

    stats: PublishStats
    body: bytes | None
    interrupted: bool
    repeated: tuple[int, ...] = ()


async def send_messages(request: SendRequest) -> SendResult:
    """Send all messages. Raises MsctlError with the number that were sent, confirmed and refused.

    Where many messages are confirmed, a lost connection is made again for up to the timeout, and sending goes
    on with what has no answer.
    """
    url = parse_url(request.url)
    with _source(request) as fd:
        body = None if request.by_line else await _one_body(request, fd)

        async def connect(use: QueueUse | None) -> Connection:
            connection = await open_with_queue(
                url, use, name="msctl send", notify=note, timeout=request.timeout
            )
            if request.exchange:
                await _or_close(connection, require_exchange(connection, request.exchange))
            return connection

        first = [await connect(request.use)]  # not retried: a script wants to know at once

        async def next_connection() -> Connection:
            use = request.use
            return first.pop() if first else await connect(use and replace(use, known=True))

        source = MessageSource(_lines(request, fd) if body is None else _copies(body, request.count))
        run = _Run(request, source)
        try:
            await run.until_done(next_connection)
        finally:
            await source.close()
    stats = run.account.stats()
    if run.error is not None or stats.refused:
        raise failure(request, stats, run.error) from run.error
    return SendResult(stats, None if request.many else body, run.interrupted, tuple(run.account.repeated))


async def _or_close(connection: Connection, check: Coroutine[None, None, None]) -> None:
    try:
        await check
    except BaseException:
        await connection.close()
        raise


class _Run:
    """One run of `send`, over one or more connections."""

    def __init__(self, request: SendRequest, source: MessageSource) -> None:
        self.account = SendAccount()
        self.error: MsctlError | None = None
        self.interrupted = False
        self._request = request
        self._source = source
        self._publisher: Publisher | None = None

    async def until_done(self, next_connection: Callable[[], Awaitable[Connection]]) -> None:
        """Send until the source ends, Ctrl-C, or an error that stays."""
        request = self._request
        total = None if request.by_line else request.count
        progress = asyncio.create_task(
            show_progress("sent", self._sent, total) if request.many else _nothing()
        )
        try:
            await keep_connected(
                next_connection,
                self._session,
                notify=note,
                clock=SystemClock(asyncio.sleep),
                give_up_after=request.timeout if self._resumes else 0.0,
            )
        except asyncio.CancelledError:
            uncancel()
            self.interrupted = True
        except MsctlError as error:
            self.error = error
        finally:
            progress.cancel()
            await asyncio.wait({progress})

    @property
    def _resumes(self) -> bool:
        return self._request.many and self._request.confirm

    def _sent(self) -> int:
        return self.account.sent_with(self._publisher.sent if self._publisher is not None else 0)

    async def _session(self, connection: Connection) -> None:
        """Send on one connection. Raises BrokerAwayError if sending is to go on with another one."""
        request, account = self._request, self.account
        again = [number for number, _ in account.unconfirmed]
        if account.sent:
            twice = f"{ranges(tuple(again), request.noun)} sent again, may arrive twice" if again else ""
            note(f"connected again: {twice or 'nothing has to be sent again'}")
        publisher = await Publisher.open(
            connection, confirms=request.confirm, timeout=request.timeout, notify=note
        )
        self._publisher = publisher
        error: MsctlError | None = None
        try:
            await _unless_failed(self._feed(publisher), publisher)
        except asyncio.CancelledError:
            uncancel()
            self.interrupted = True
            with contextlib.suppress(MsctlError, TimeoutError):
                async with asyncio.timeout(_LAST_CONFIRMS):
                    await publisher.drain()
        except MsctlError as exc:
            error = exc
        finally:
            await publisher.close()
            self._publisher = None
            account.add(publisher.stats(), publisher.in_flight())
        if isinstance(error, BrokerAwayError) and self._resumes and not account.refused:
            noun = request.noun
            note(
                f"{_count(account.confirmed, noun)} confirmed, "
                f"{_count(len(account.unconfirmed), noun)} sent without an answer"
            )
            raise error
        self.error = error

    async def _feed(self, publisher: Publisher) -> None:
        """Publish the bodies in order, at the requested rate, until one is refused."""
        request = self._request
        properties = Basic.Properties()
        for name, value in request.properties.values.items():
            setattr(properties, name, value)
        if request.properties.headers:
            properties.headers = dict(request.properties.headers)
        template = publisher.template(properties, exchange=request.exchange, routing_key=request.key)
        for _, body in self.account.unconfirmed:
            if publisher.refused:
                break
            await publisher.publish_nowait(template, body)
        loop = asyncio.get_running_loop()
        due = loop.time()
        ready = self._source.ready
        while not publisher.refused and (ready or await self._source.fill()):
            while ready and not publisher.refused:
                if request.rate is not None:
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    due += 1 / request.rate
                if not publisher.offer(template, ready[0]):
                    await publisher.publish_nowait(template, ready[0])
                ready.popleft()
        await publisher.drain()


async def _nothing() -> None:
    """A single message has no progress."""


async def _unless_failed(work: Coroutine[None, None, None], publisher: Publisher) -> None:
    """Await `work`; cancel it when the publisher fails, since it may be waiting for input."""
    done, failed = await first_of(work, publisher.failed())
    if done.cancelled():
        raise failed.result()
    done.result()


def failure(request: SendRequest, stats: PublishStats, error: MsctlError | None) -> MsctlError:
    """Return the error with its cause and the outcome of every message that was sent."""
    noun = request.noun
    parts = []
    if stats.refusals:
        first = stats.refusals[0]
        where = f"{noun} {first.number}" if request.many else "the message"
        parts.append(f"{where} was refused: {first.reason}")
        if stats.refused > 1:
            parts.append(f"{stats.refused - 1} more were refused")
    elif error is not None:
        parts.append(error.message)
    if request.many and request.confirm:
        parts.append(f"{_count(stats.confirmed, noun)} confirmed")
    if stats.unconfirmed:
        numbers = f" ({ranges(stats.unconfirmed, noun)})" if request.many else ""
        were = _count(len(stats.unconfirmed), noun)
        parts.append(f"{were} sent but not confirmed{numbers}, and may or may not have arrived")
    if request.many and stats.sent:
        parts.append(f"nothing after {noun} {stats.sent} was sent")
    kind = BrokerError if stats.refusals or error is None else _kind(error)
    return kind("; ".join(parts), hint=error.hint if error is not None else None)


def _kind(error: MsctlError) -> type[MsctlError]:
    """Return the class of error that has the exit code."""
    for kind in (TimedOutError, UsageError):
        if isinstance(error, kind):
            return kind
    return BrokerError


def _count(number: int, noun: str) -> str:
    return f"1 {noun} was" if number == 1 else f"{number} {noun}s were"


def ranges(numbers: tuple[int, ...], noun: str) -> str:
    """Format `line 5`, `lines 5 to 9`, or with gaps `between line 5 and line 9`."""
    if len(numbers) == 1:
        return f"{noun} {numbers[0]}"
    if numbers[-1] - numbers[0] >= len(numbers):
        return f"between {noun} {numbers[0]} and {noun} {numbers[-1]}"
    return f"{noun}s {numbers[0]} to {numbers[-1]}"


@contextlib.contextmanager
def _source(request: SendRequest) -> Iterator[int]:
    """Open the source; standard input is not closed."""
    if request.file is None:
        yield STDIN
        return
    try:
        fd = os.open(request.file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise unreadable(str(request.file), exc) from exc
    try:
        yield fd
    finally:
        os.close(fd)


def _name(request: SendRequest) -> str:
    return "standard input" if request.file is None else str(request.file)


async def _one_body(request: SendRequest, fd: int) -> bytes:
    if request.text is not None:
        return request.text
    return await read_all(fd, limit=MAX_BODY, name=_name(request))


async def _lines(request: SendRequest, fd: int) -> AsyncIterator[list[bytes]]:
    if request.text is not None:
        yield request.text.splitlines()
        return
    async for batch in lines(fd, limit=MAX_BODY, name=_name(request)):
        yield batch


async def _copies(body: bytes, count: int) -> AsyncIterator[list[bytes]]:
    while count > 0:
        yield [body] * min(count, _BATCH)
        count -= _BATCH

"""Reads messages, publishes them, and accounts for every one: confirmed, refused or unknown."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pamqp.commands import Basic

from msctl.aio import first_of
from msctl.amqp.connection import Connection, closing
from msctl.amqp.publisher import MAX_BODY, Publisher, PublishStats
from msctl.amqp.queues import QueueUse, open_with_queue, require_exchange
from msctl.amqp.url import parse_url
from msctl.cli.messaging.streams import lines, note, read_all, uncancel, unreadable
from msctl.cli.options.message_options import PERSISTENT, MessageProperties
from msctl.cli.output.progress import show_progress
from msctl.errors import BrokerError, MsctlError, TimedOutError, UsageError

STDIN = 0
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
    """The outcome of every message, the body if there was one message, and whether Ctrl-C ended it."""

    stats: PublishStats
    body: bytes | None
    interrupted: bool


async def send_messages(request: SendRequest) -> SendResult:
    """Send all messages. Raises MsctlError with the number that were sent, confirmed and refused."""
    url = parse_url(request.url)
    with _source(request) as fd:
        body = None if request.by_line else await _one_body(request, fd)
        connection = await open_with_queue(
            url, request.use, name="msctl send", notify=note, timeout=request.timeout
        )
        async with closing(connection):
            if request.exchange:
                await require_exchange(connection, request.exchange)
            bodies = _lines(request, fd) if body is None else _copies(body, request.count)
            stats, interrupted = await _publish_all(request, connection, bodies)
            return SendResult(stats, None if request.many else body, interrupted)


async def _publish_all(
    request: SendRequest, connection: Connection, bodies: AsyncIterator[bytes]
) -> tuple[PublishStats, bool]:
    publisher = await Publisher.open(
        connection, confirms=request.confirm, timeout=request.timeout, notify=note
    )
    interrupted = False
    error: MsctlError | None = None
    total = None if request.by_line else request.count
    progress = asyncio.create_task(
        show_progress("sent", lambda: publisher.sent, total) if request.many else _nothing()
    )
    try:
        await _unless_failed(_feed(request, publisher, bodies), publisher)
    except asyncio.CancelledError:
        uncancel()
        interrupted = True
        with contextlib.suppress(MsctlError, TimeoutError):
            async with asyncio.timeout(_LAST_CONFIRMS):
                await publisher.drain()
    except MsctlError as exc:
        error = exc
    finally:
        progress.cancel()
        await asyncio.wait({progress})
        await publisher.close()
    stats = publisher.stats()
    if error is not None or stats.refused:
        raise failure(request, stats, error) from error
    return stats, interrupted


async def _nothing() -> None:
    """A single message has no progress."""


async def _feed(request: SendRequest, publisher: Publisher, bodies: AsyncIterator[bytes]) -> None:
    """Publish the bodies in order, at the requested rate, until one is refused."""
    properties = Basic.Properties()
    for name, value in request.properties.values.items():
        setattr(properties, name, value)
    if request.properties.headers:
        properties.headers = dict(request.properties.headers)
    template = publisher.template(properties, exchange=request.exchange, routing_key=request.key)
    loop = asyncio.get_running_loop()
    due = loop.time()
    async for body in bodies:
        if request.rate is not None:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += 1 / request.rate
        if publisher.refused:
            break
        await publisher.publish_nowait(template, body)
    await publisher.drain()


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
        numbers = f" ({_ranges(stats.unconfirmed, noun)})" if request.many else ""
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


def _ranges(numbers: tuple[int, ...], noun: str) -> str:
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


async def _lines(request: SendRequest, fd: int) -> AsyncIterator[bytes]:
    if request.text is not None:
        for line in request.text.splitlines():
            yield line
        return
    async for line in lines(fd, limit=MAX_BODY, name=_name(request)):
        yield line


async def _copies(body: bytes, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield body

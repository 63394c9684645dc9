"""One open connection to a broker, and the one place where the library's failures are translated.

A connection never reconnects: it is open, then it ends, and `lost` says why. What aiormq gets wrong at the
edges (an rpc that ends in a cancellation nobody asked for, a close that waits for ever, records with
tracebacks for ends that we report ourselves) is put right here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar, cast

import aio_pika
from aiormq.base import Base
from aiormq.channel import Channel
from aiormq.connection import Connection as Transport
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from yarl import URL

from msctl.amqp.errors import (
    LIBRARY_ERRORS,
    BrokerAwayError,
    closed_error,
    connect_error,
    is_connection_level,
)
from msctl.amqp.url import BrokerUrl
from msctl.errors import BrokerError, TimedOutError

CONNECT_TIMEOUT = 10.0
CLOSE_TIMEOUT = 2.0
ANSWER_TIMEOUT = 30.0
"""Seconds that a broker may take to answer one request on an open connection."""
_REASON_TIMEOUT = 1.0

T = TypeVar("T")


class Connection:
    """An open connection; `open` makes one, `close` ends it, `lost` waits for its end."""

    def __init__(self, url: BrokerUrl, client: aio_pika.Connection, sockets: _Sockets) -> None:
        """For a `client` that is open; `sockets` made its socket."""
        self.url = url
        self._client = client
        self._sockets = sockets
        assert client.transport is not None  # noqa: S101 - for the type checker: it is open
        self._transport = cast(Transport, client.transport.connection)

    @classmethod
    async def open(cls, url: BrokerUrl, *, name: str, timeout: float = CONNECT_TIMEOUT) -> Connection:
        """Connect once, within `timeout` seconds; `name` is what the broker's tools show.

        Raises BrokerAwayError where another attempt may help, else BrokerError.
        """
        _quiet_libraries()
        before = cancellations()
        sockets = _Sockets(tls=url.tls)
        try:
            client = aio_pika.Connection(
                URL(url.text), client_properties={"connection_name": name, "product": "msctl"}
            )
            client.kwargs["transport_factory"] = sockets
            # Not aio-pika's own timeout: on Python 3.11 it can swallow a cancellation.
            async with asyncio.timeout(timeout):
                await client.connect()
            raise_if_cancelled(before)
            return cls(url, client, sockets)
        except (TimeoutError, ValueError, *LIBRARY_ERRORS) as exc:
            sockets.abort()
            raise_if_cancelled(before)
            raise connect_error(exc, url, timeout) from exc
        except asyncio.CancelledError as exc:
            sockets.abort()
            if cancellations() > before:
                raise
            raise connect_error(exc, url, timeout) from exc

    async def channel(self, *, confirms: bool = False) -> Channel:
        """A new channel; with `confirms`, publishes are confirmed and returned messages raise."""
        channel = await self.ask(
            self._transport.channel(publisher_confirms=confirms, on_return_raises=confirms)
        )
        return cast(Channel, channel)

    async def ask(self, answer: Awaitable[T], timeout: float = ANSWER_TIMEOUT) -> T:
        """Wait for one answer of the broker. Raises BrokerError and its kinds, or TimedOutError."""
        before = cancellations()
        try:
            async with asyncio.timeout(timeout):
                result = await answer
        except TimeoutError:
            raise_if_cancelled(before)
            raise TimedOutError(
                f"the broker at {self.url.address} did not answer within {timeout:g} s"
            ) from None
        except asyncio.CancelledError as exc:
            # aiormq cancels its own tasks when a connection ends, and lets that out to who waits.
            if cancellations() > before:
                raise
            raise await self.reason(exc) from exc
        except LIBRARY_ERRORS as exc:
            raise_if_cancelled(before)
            raise await self.reason(exc) from exc
        raise_if_cancelled(before)
        return result

    async def reason(self, exc: BaseException | None) -> BrokerError:
        """Why something on this connection failed with `exc`: the connection's own end says most."""
        error = closed_error(exc, self.url)
        if not isinstance(error, BrokerAwayError) or (exc is not None and is_connection_level(exc)):
            return error
        # The failure of a request can outrun the reason for which the connection is closing.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REASON_TIMEOUT):
                return await self.lost()
        return error

    async def lost(self) -> BrokerError:
        """Wait until the connection has ended, and say why."""
        return closed_error(await end_of(self._transport), self.url)

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closed

    @property
    def frame_max(self) -> int:
        """The largest frame that the broker takes, in bytes with its header."""
        return self._transport.connection_tune.frame_max or 131072

    async def is_blocked(self) -> bool:
        """Whether the broker has told us that it takes no messages now (memory or disk alarm)."""
        try:
            async with asyncio.timeout(0.01):
                await self._transport.ready()
        except TimeoutError:
            return True
        return False

    async def close(self) -> None:
        """End the connection; promptly, even where the broker no longer answers."""
        with contextlib.suppress(TimeoutError, *LIBRARY_ERRORS):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._client.close()
        self._sockets.abort()


class _Sockets(TransportFactory):
    """Makes a connection's socket as aiormq would, and can cut it off. A connect that is cancelled
    just when it succeeds would otherwise leave an open connection that nobody knows."""

    def __init__(self, *, tls: bool) -> None:
        self._factory = TLSTransportFactory() if tls else TCPTransportFactory()
        self._writer: asyncio.StreamWriter | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, self._writer = await self._factory.create(url, **kwargs)
        return reader, self._writer

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


async def end_of(part: Base) -> BaseException | None:
    """Wait until a channel or connection has ended; what ended it, or None for an end as planned."""
    observer = part.closing
    try:
        await asyncio.wait([observer])
        return None if observer.cancelled() else observer.exception()
    finally:
        if not observer.done():
            observer.cancel()


@contextlib.asynccontextmanager
async def closing(connection: Connection) -> AsyncIterator[Connection]:
    """`connection`, closed at the end also when the body is cancelled."""
    try:
        yield connection
    finally:
        await connection.close()


def cancellations() -> int:
    """How often the running task was asked to stop, and has not said that it dealt with it."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def raise_if_cancelled(before: int) -> None:
    """Raise the CancelledError that a library swallowed since there were `before` cancellations."""
    if cancellations() > before:
        raise asyncio.CancelledError


def _quiet_libraries() -> None:
    """The libraries log each end of a connection as an error, some with a traceback; we report
    every one ourselves. Levels that somebody has set on purpose stay."""
    for name in ("aiormq", "aio_pika"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)

"""One open connection to a broker; translates the library's failures into BrokerError.

A connection never reconnects: it is open, then closed, and `lost` returns the reason. This module also
works around aiormq: a request that ends in a cancellation that no one asked for, a close that waits for
ever, and log records with tracebacks for closes that msctl reports itself.
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
from msctl.amqp.frame_stream import FrameStream
from msctl.amqp.url import BrokerUrl
from msctl.errors import BrokerError, TimedOutError, UsageError

CONNECT_TIMEOUT = 10.0
CLOSE_TIMEOUT = 2.0
ANSWER_TIMEOUT = 30.0
"""Seconds for a broker to answer one request on an open connection."""
_REASON_TIMEOUT = 1.0

T = TypeVar("T")


class Connection:
    """An open connection: `open` connects, `close` closes it, `lost` waits for its end."""

    def __init__(self, url: BrokerUrl, client: aio_pika.Connection, sockets: _Sockets) -> None:
        """Wrap the open `client`, whose socket `sockets` created."""
        self.url = url
        self._client = client
        self._sockets = sockets
        assert client.transport is not None  # noqa: S101 - the client is open
        self._transport = cast(Transport, client.transport.connection)

    @classmethod
    async def open(cls, url: BrokerUrl, *, name: str, timeout: float = CONNECT_TIMEOUT) -> Connection:
        """Connect once, within `timeout` seconds; the broker's tools show the connection as `name`.

        Raises BrokerAwayError if another attempt may succeed, else BrokerError.
        """
        _quiet_libraries()
        before = cancellations()
        sockets = _Sockets(tls=url.tls)
        try:
            client = aio_pika.Connection(
                URL(url.text), client_properties={"connection_name": name, "product": "msctl"}
            )
            client.kwargs["transport_factory"] = sockets
            # aio-pika's own timeout can swallow a cancellation on Python 3.11.
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
        """Open a channel; with `confirms`, publishes are confirmed and returned messages raise."""
        channel = await self.ask(
            self._transport.channel(publisher_confirms=confirms, on_return_raises=confirms)
        )
        return cast(Channel, channel)

    async def ask(self, answer: Awaitable[T], timeout: float = ANSWER_TIMEOUT) -> T:
        """Wait for one answer of the broker. Raises BrokerError and TimedOutError."""
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
            # aiormq cancels its own tasks when a connection ends, and the caller sees the cancellation.
            if cancellations() > before:
                raise
            raise await self.reason(exc) from exc
        except (ValueError, TypeError) as exc:  # pamqp's errors for values that AMQP cannot encode
            raise UsageError(f"the request cannot be encoded: {exc}") from exc
        except LIBRARY_ERRORS as exc:
            raise_if_cancelled(before)
            raise await self.reason(exc) from exc
        raise_if_cancelled(before)
        return result

    async def reason(self, exc: BaseException | None) -> BrokerError:
        """The reason for a failure `exc` on this connection; prefers that of the connection's close."""
        error = closed_error(exc, self.url)
        if not isinstance(error, BrokerAwayError) or (exc is not None and is_connection_level(exc)):
            return error
        # A request can fail before the reason for closing the connection is known.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REASON_TIMEOUT):
                return await self.lost()
        return error

    async def lost(self) -> BrokerError:
        """Wait until the connection has ended and return the reason."""
        return closed_error(await end_of(self._transport), self.url)

    @property
    def frames(self) -> FrameStream:
        """Where a channel gives a sink for its deliveries or confirms."""
        return self._sockets.frames

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closed

    @property
    def frame_max(self) -> int:
        """The largest frame that the broker accepts, in bytes, header included."""
        return self._transport.connection_tune.frame_max or 131072

    @property
    def is_embedded_broker(self) -> bool:
        """Whether the broker is msctl's own."""
        return str(self._transport.server_properties.get("platform", "")).startswith("msctl/")

    async def is_blocked(self) -> bool:
        """Whether the broker has blocked this connection (memory or disk alarm)."""
        try:
            async with asyncio.timeout(0.01):
                await self._transport.ready()
        except TimeoutError:
            return True
        return False

    async def close(self) -> None:
        """Close the connection; prompt even if the broker no longer answers."""
        with contextlib.suppress(TimeoutError, *LIBRARY_ERRORS):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._client.close()
        self._sockets.abort()


class _Sockets(TransportFactory):
    """Creates a connection's socket as aiormq does, reads it with a FrameStream, and can abort it.

    Without it, a connect that is cancelled just as it succeeds would leak an open connection.
    """

    def __init__(self, *, tls: bool) -> None:
        self._factory = TLSTransportFactory() if tls else TCPTransportFactory()
        self._writer: asyncio.StreamWriter | None = None
        self._first: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.frames = FrameStream(asyncio.get_running_loop())

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # A server is silent before the client's header, so that no byte has been read yet. The first pair is
        # kept, since a writer that is collected closes its transport.
        self._first = await self._factory.create(url, **kwargs)
        transport = self._first[1].transport
        loop = asyncio.get_running_loop()
        protocol = asyncio.StreamReaderProtocol(self.frames, loop=loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        self._writer = asyncio.StreamWriter(transport, protocol, self.frames, loop)
        return self.frames, self._writer

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


async def end_of(part: Base) -> BaseException | None:
    """Wait until a channel or connection has ended; return the error, or None for an orderly close."""
    observer = part.closing
    try:
        await asyncio.wait([observer])
        return None if observer.cancelled() else observer.exception()
    finally:
        if not observer.done():
            observer.cancel()


@contextlib.asynccontextmanager
async def closing(connection: Connection) -> AsyncIterator[Connection]:
    """Close `connection` at the end of the block, also after a cancellation."""
    try:
        yield connection
    finally:
        await connection.close()


def cancellations() -> int:
    """The number of pending cancellation requests of the current task."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def raise_if_cancelled(before: int) -> None:
    """Raise CancelledError if a library swallowed a cancellation since `before` was counted."""
    if cancellations() > before:
        raise asyncio.CancelledError


def _quiet_libraries() -> None:
    """Silence the libraries' loggers: they log each closed connection as an error, some with a traceback.

    Levels that are already set stay.
    """
    for name in ("aiormq", "aio_pika"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)

"""One open connection to a broker, and the one place where the library's failures are translated.

A link never reconnects: it is open, then it ends, and `lost` says why. What aiormq gets wrong at the
edges (an rpc that ends in a cancellation nobody asked for, a close that waits for ever, records with
tracebacks for ends that we report ourselves) is put right here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar, cast

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq.base import Base
from aiormq.channel import Channel
from aiormq.connection import Connection as Transport

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


class Link:
    """An open connection; `open` makes one, `close` ends it, `lost` waits for its end."""

    def __init__(self, url: BrokerUrl, connection: AbstractConnection, transport: Transport) -> None:
        self.url = url
        self._connection = connection
        self._transport = transport

    @classmethod
    async def open(cls, url: BrokerUrl, *, name: str, timeout: float = CONNECT_TIMEOUT) -> Link:
        """Connect once, within `timeout` seconds; `name` is what the broker's tools show.

        Raises BrokerAwayError where another attempt may help, else BrokerError.
        """
        _quiet_libraries()
        try:
            connection = await aio_pika.connect(
                url.text, timeout=timeout, client_properties={"connection_name": name, "product": "msctl"}
            )
        except (TimeoutError, ValueError, *LIBRARY_ERRORS) as exc:
            raise connect_error(exc, url, timeout) from exc
        except asyncio.CancelledError as exc:
            if _asked_to_stop():
                raise
            raise connect_error(exc, url, timeout) from exc
        assert connection.transport is not None  # noqa: S101 - for the type checker: connect() sets it
        return cls(url, connection, cast(Transport, connection.transport.connection))

    async def channel(self, *, confirms: bool = False) -> Channel:
        """A new channel; with `confirms`, publishes are confirmed and returned messages raise."""
        channel = await self.ask(
            self._transport.channel(publisher_confirms=confirms, on_return_raises=confirms)
        )
        return cast(Channel, channel)

    async def ask(self, answer: Awaitable[T], timeout: float = ANSWER_TIMEOUT) -> T:
        """Wait for one answer of the broker. Raises BrokerError and its kinds, or TimedOutError."""
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise TimedOutError(
                f"the broker at {self.url.address} did not answer within {timeout:g} s"
            ) from None
        except asyncio.CancelledError as exc:
            if _asked_to_stop():
                raise
            raise await self.reason(exc) from exc
        except LIBRARY_ERRORS as exc:
            raise await self.reason(exc) from exc

    async def reason(self, exc: BaseException | None) -> BrokerError:
        """Why something on this link failed with `exc`: the connection's own end says most."""
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
                await self._connection.close()


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
async def closing(link: Link) -> AsyncIterator[Link]:
    """`link`, closed at the end also when the body is cancelled."""
    try:
        yield link
    finally:
        await link.close()


def _asked_to_stop() -> bool:
    """Whether the cancellation in flight is meant for us. aiormq cancels its own tasks when a
    connection ends, and lets that out to whoever waits for them."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _quiet_libraries() -> None:
    """The libraries log each end of a connection as an error, some with a traceback; we report
    every one ourselves. Levels that somebody has set on purpose stay."""
    for name in ("aiormq", "aio_pika"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)

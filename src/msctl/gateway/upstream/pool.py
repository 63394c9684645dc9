"""The pool of connections to one instance: bounded, first come first served."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from msctl.gateway.upstream.connection import Connection

if TYPE_CHECKING:
    import ssl


class PoolFullError(Exception):
    """No connection became available in time."""


class Pool:
    """The connections to one instance: at most `size`, kept for `idle` seconds when unused.

    Choose `idle` below the servers' own idle timeout: a request on a connection that the server is
    closing fails. With `tls` connections are encrypted, to a server that proves to be `server_name`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        size: int,
        idle: float,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._server_name = (server_name or host) if tls is not None else None
        self._size = size
        self._idle_for = idle
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._connecting = 0
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._reaper: asyncio.TimerHandle | None = None
        self._closed = False

    def reconfigure(self, size: int, idle: float) -> None:
        """Apply new limits; surplus connections close when they are released."""
        self._size = size
        self._idle_for = idle

    @property
    def open(self) -> int:
        return len(self._open) + self._connecting

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    async def acquire(
        self, loop: asyncio.AbstractEventLoop, timeout: float, *, fresh: bool = False
    ) -> Connection:
        """Return an unused connection; a new one if `fresh`.

        Raises OSError if it cannot connect, TimeoutError after `timeout` seconds, or PoolFullError if
        all connections were busy for that long.
        """
        deadline = loop.time() + timeout
        while True:
            while self._idle and not fresh:
                connection = self._idle.pop()
                if not connection.closed and loop.time() - connection.idle_since < self._idle_for:
                    return connection
                self._forget(connection)
            if self.open < self._size:
                return await self._connect(loop, deadline - loop.time())
            if fresh and self._idle:
                self._forget(self._idle.pop(0))
                continue
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters[waiter] = None
            try:
                async with asyncio.timeout_at(deadline):
                    await waiter
            except TimeoutError:
                raise PoolFullError(f"all {self._size} connections were busy") from None
            except asyncio.CancelledError:
                if waiter.done():
                    self._wake_waiter()
                raise
            finally:
                self._waiters.pop(waiter, None)

    async def _connect(self, loop: asyncio.AbstractEventLoop, timeout: float) -> Connection:
        self._connecting += 1
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop),
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._server_name,
                )
        except BaseException:
            self._connecting -= 1
            self._wake_waiter()
            raise
        self._connecting -= 1
        self._open.add(connection)
        return connection

    def release(self, connection: Connection, now: float) -> None:
        """Return a connection to the pool, or close it if it cannot be reused."""
        if self._closed or not connection.reusable or self.open > self._size:
            self._forget(connection)
        else:
            connection.end_exchange()
            connection.idle_since = now
            self._idle.append(connection)
            if self._reaper is None:
                self._reaper = asyncio.get_running_loop().call_later(self._idle_for, self._reap)
        self._wake_waiter()

    def drop(self, connection: Connection) -> None:
        """Abort a connection with an unfinished exchange."""
        connection.abort()
        self._open.discard(connection)
        self._wake_waiter()

    def detach(self, connection: Connection) -> None:
        """Remove a connection from the pool without closing it."""
        self._open.discard(connection)
        self._wake_waiter()

    async def close(self) -> None:
        """Close idle connections; those in use close when they are released."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        for connection in self._idle:
            self._forget(connection)
        self._idle.clear()

    def abort(self) -> None:
        """Abort every connection, in use or not."""
        for connection in list(self._open):
            connection.abort()

    def _forget(self, connection: Connection) -> None:
        with contextlib.suppress(RuntimeError):
            connection.close()
        self._open.discard(connection)

    def _wake_waiter(self) -> None:
        """Wake the first waiter."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
                return

    def _reap(self) -> None:
        self._reaper = None
        loop = asyncio.get_running_loop()
        fresh: list[Connection] = []
        for connection in self._idle:
            if connection.closed or loop.time() - connection.idle_since >= self._idle_for:
                self._forget(connection)
            else:
                fresh.append(connection)
        self._idle = fresh
        if fresh:
            self._reaper = loop.call_later(self._idle_for, self._reap)

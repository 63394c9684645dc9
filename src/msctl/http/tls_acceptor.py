"""Accepts HTTPS connections and passes them to the HTTP server after the handshake.

Compared with `create_server(ssl=…)`: a plain-HTTP request gets a 400 that says so, as from nginx and
Go's server; a silent client is closed after a timeout; connections before the handshake are bounded in
number and closed with the acceptor.

The first byte is peeked, not read, so the handshake still finds it. Until the transport takes the
socket over, `_ours` owns it and `_end` closes it, even if the task is cancelled before it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import ssl

HANDSHAKE_S = 10.0
"""Seconds allowed for the handshake."""
MAX_PENDING = 4096
"""Connections before their handshake. One more closes the oldest silent one, or else the oldest."""
_ACCEPT_BATCH = 64
_PAUSE_S = 1.0
_HANDSHAKE_RECORD = b"\x16"
_OUT_OF_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_TEXT = b"This port speaks HTTPS; the request was plain HTTP. Use https:// in the URL.\n"
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_TEXT), _TEXT)
)
log = logging.getLogger("msctl.tls")


class TlsAcceptor:
    """Accepts on listening sockets until it is closed."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        factory: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        *,
        handshake_timeout: float = HANDSHAKE_S,
    ) -> None:
        """The sockets are the door's from now on. `handshake_timeout` is in seconds."""
        self._loop = asyncio.get_running_loop()
        self._sockets = list(sockets)
        self._factory = factory
        self._context = context
        self._handshake_timeout = handshake_timeout
        self._pending: dict[asyncio.Task[None], None] = {}
        self._silent: dict[asyncio.Task[None], None] = {}
        self._ours: set[socket.socket] = set()
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        for sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def close(self) -> None:
        """Stop accepting and close connections before their handshake; others are not affected."""
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        for timer in self._paused.values():
            timer.cancel()
        for task in self._pending:
            task.cancel()
        self._sockets, self._paused = [], {}

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(_ACCEPT_BATCH):
            try:
                connection, peer = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_FILES:
                    raise
                log.warning("cannot accept connections: %s", error.strerror)
                self._loop.remove_reader(sock)
                again = self._loop.call_later(_PAUSE_S, self._resume, sock)
                self._paused[sock] = again
                return
            connection.setblocking(False)
            if len(self._pending) >= MAX_PENDING:
                oldest = next(iter(self._silent or self._pending))
                self._dismiss(oldest)
                oldest.cancel()
            # Ours to close until the handshake, even if the task is cancelled before it starts.
            self._ours.add(connection)
            task = self._loop.create_task(self._receive(connection, str(peer[0])))
            self._pending[task] = self._silent[task] = None
            task.add_done_callback(partial(self._end, connection))

    def _resume(self, sock: socket.socket) -> None:
        del self._paused[sock]
        self._loop.add_reader(sock, self._accept, sock)

    def _dismiss(self, task: asyncio.Task[None]) -> None:
        self._pending.pop(task, None)
        self._silent.pop(task, None)

    def _end(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._dismiss(task)
        if connection in self._ours:
            self._ours.remove(connection)
            connection.close()

    async def _receive(self, connection: socket.socket, peer: str) -> None:
        """Pass the connection on after its handshake; `_end` closes one that is still ours."""
        try:
            async with asyncio.timeout(self._handshake_timeout):
                first = await self._first_byte(connection)
                self._silent.pop(cast("asyncio.Task[None]", asyncio.current_task()), None)
                if first == _HANDSHAKE_RECORD:
                    self._ours.remove(connection)  # the transport closes it from now on
                    await self._loop.connect_accepted_socket(
                        self._factory,
                        connection,
                        ssl=self._context,
                        ssl_handshake_timeout=self._handshake_timeout,
                    )
                elif first.isalpha():
                    log.info("400 for a request from %s: plain HTTP on an HTTPS port", peer)
                    await self._explain(connection)
        except TimeoutError:
            log.info("no TLS handshake from %s within %g s", peer, self._handshake_timeout)
        except OSError as error:  # an SSLError is one
            log.info("the TLS handshake with %s failed: %s", peer, _reason(error))

    async def _first_byte(self, connection: socket.socket) -> bytes:
        """Return the connection's first byte without consuming it; empty if the client closed it."""
        while True:
            with contextlib.suppress(BlockingIOError, InterruptedError):
                return connection.recv(1, socket.MSG_PEEK)
            readable = self._loop.create_future()
            self._loop.add_reader(connection, _complete, readable)
            try:
                await readable
            finally:
                self._loop.remove_reader(connection)

    async def _explain(self, connection: socket.socket) -> None:
        # Unread data would turn the close into a reset, which may overtake the response.
        connection.recv(65536)
        await self._loop.sock_sendall(connection, _PLAIN_ANSWER)
        connection.shutdown(socket.SHUT_WR)


def _complete(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _reason(error: OSError) -> str:
    """Return OpenSSL's reason, such as "no protocols overlap", which its message lacks."""
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else (error.strerror or str(error)).lower()

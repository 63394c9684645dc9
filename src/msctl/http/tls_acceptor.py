"""Accepts HTTPS connections: what shakes hands goes on to the HTTP server, everything else is told or let go.

`create_server(ssl=…)` would do for clients that behave. Here one that speaks plain HTTP is told so in
words, as nginx and Go's server do, one that says nothing is let go after a while, and those that are
still silent are bounded in number and gone when the door is closed.
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
"""Seconds within which a client must have shaken hands."""
MOST_PENDING = 4096
"""Connections that have not shaken hands yet; one more ends the oldest silent one, or else the oldest."""
_AT_ONCE = 64
_PAUSE_S = 1.0
_HANDSHAKE_RECORD = b"\x16"
_OUT_OF_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_TEXT = b"This port speaks HTTPS, and the request came as plain HTTP: write https:// in its address.\n"
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_TEXT), _TEXT)
)
log = logging.getLogger("msctl.tls")


class SecureDoor:
    """Accepts on sockets that listen already, until it is closed."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        factory: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        *,
        patience: float = HANDSHAKE_S,
    ) -> None:
        """The sockets are the door's from now on. `patience` is in seconds."""
        self._loop = asyncio.get_running_loop()
        self._sockets = list(sockets)
        self._factory = factory
        self._context = context
        self._patience = patience
        self._pending: dict[asyncio.Task[None], None] = {}
        self._silent: dict[asyncio.Task[None], None] = {}
        self._ours: set[socket.socket] = set()
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        for sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def close(self) -> None:
        """Accept no more, and let go of what has not shaken hands; what has is not touched."""
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        for timer in self._paused.values():
            timer.cancel()
        for task in self._pending:
            task.cancel()
        self._sockets, self._paused = [], {}

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, peer = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_FILES:
                    raise
                log.warning("no connection can be accepted for now: %s", error.strerror)
                self._loop.remove_reader(sock)
                again = self._loop.call_later(_PAUSE_S, self._resume, sock)
                self._paused[sock] = again
                return
            connection.setblocking(False)
            if len(self._pending) >= MOST_PENDING:
                oldest = next(iter(self._silent or self._pending))
                self._dismiss(oldest)
                oldest.cancel()
            # Before it shakes hands it is ours to close, be it cancelled before it has begun.
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
        """Hand the connection over once it has shaken hands; `_end` closes one that is still ours."""
        try:
            async with asyncio.timeout(self._patience):
                first = await self._first_byte(connection)
                self._silent.pop(cast("asyncio.Task[None]", asyncio.current_task()), None)
                if first == _HANDSHAKE_RECORD:
                    self._ours.remove(connection)  # the transport's, whatever comes of it
                    await self._loop.connect_accepted_socket(
                        self._factory, connection, ssl=self._context, ssl_handshake_timeout=self._patience
                    )
                elif first.isalpha():
                    log.info(
                        "400 for a request from %s: it came as plain HTTP, and the port speaks HTTPS", peer
                    )
                    await self._explain(connection)
        except TimeoutError:
            log.info("a client at %s did not shake hands within %g s", peer, self._patience)
        except OSError as error:  # an SSLError is one
            log.info("a client at %s did not shake hands: %s", peer, _reason(error))

    async def _first_byte(self, connection: socket.socket) -> bytes:
        """What the connection begins with, left where it is; empty where the client has gone."""
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
        # What is left unread would make of the close a reset, which may overtake the answer.
        connection.recv(65536)
        await self._loop.sock_sendall(connection, _PLAIN_ANSWER)
        connection.shutdown(socket.SHUT_WR)


def _complete(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _reason(error: OSError) -> str:
    """In OpenSSL's words where it has any: "no protocols overlap" is more than its whole line says."""
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else (error.strerror or str(error)).lower()

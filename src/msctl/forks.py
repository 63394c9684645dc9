"""What a process that a hosted application forks must not keep of the stack.

multiprocessing forks by default on Linux up to Python 3.13, and a forked child has copies of all
descriptors. With the lock's, the stack would seem to run as long as the child does, with a listener's its
port would stay taken, and a signal to the child would wake the stack's loop and be handled there. So the
child closes and resets these. Programs that are started, rather than forked, inherit none of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end a stack, or a single service."""

_descriptors: set[int] = set()
_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
_servers: weakref.WeakSet[asyncio.AbstractServer] = weakref.WeakSet()
_calls: list[Callable[[], None]] = []
_active: list[object] = []
_registered: list[object] = []


def close_in_forks(descriptor: int) -> None:
    """Close `descriptor` in forked children, until `keep_in_forks`."""
    _descriptors.add(descriptor)


def keep_in_forks(descriptor: int) -> None:
    """Call this before `descriptor` is closed: its number may become another file's."""
    _descriptors.discard(descriptor)


def close_socket_in_forks(sock: socket.socket) -> None:
    """Close this socket in forked children, as long as it is open here."""
    _sockets.add(sock)


def close_server_in_forks(server: asyncio.AbstractServer) -> None:
    """Close the sockets that this server listens on in forked children."""
    _servers.add(server)


@contextmanager
def on_fork(call: Callable[[], None]) -> Iterator[None]:
    """Call this in forked children while the context is open."""
    _calls.append(call)
    try:
        yield
    finally:
        _calls.remove(call)


@contextmanager
def forks_let_go() -> Iterator[None]:
    """While the context is open, forked children keep nothing of this process; before, `up -d` forks it."""
    if not _registered:
        os.register_at_fork(after_in_child=_let_go)
        _registered.append(None)
    _active.append(None)
    try:
        yield
    finally:
        _active.pop()


def _let_go() -> None:
    if not _active:
        return
    _active.clear()
    for call in _calls:  # first: they let it set its signals, and log
        call()
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)
        for number in STOP_SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    served = [sock for server in _servers for sock in getattr(server, "sockets", ())]
    for descriptor in {*_descriptors, *(sock.fileno() for sock in (*_sockets, *served))}:
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

"""Sockets for listeners, free ports for children, and the holder of a taken port."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING
from zlib import crc32

import psutil

from msctl.errors import MsctlError, PortTakenError
from msctl.forks import close_socket_in_forks
from msctl.model.address import Address

if TYPE_CHECKING:
    import asyncio

_DYNAMIC = range(20_000, 32_000)
"""The range of children's ports: below the ephemeral range, so that no outgoing connection takes a port
before the child binds it."""


def bind(address: Address, service: str) -> list[socket.socket]:
    """Bind a socket to every address of the host name; none listens yet.

    Port 0 chooses a free one, the same for all. Raises PortTakenError naming the holder, and
    MsctlError for a host that is not this machine's or a port that may not be bound.
    """
    try:
        found = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise MsctlError(
            f"service {service!r} cannot listen on {address}: the host name does not resolve ({error})",
            hint="use an address of this machine, such as 127.0.0.1",
        ) from error
    bound: list[socket.socket] = []
    failure: OSError | None = None
    port = address.port
    for family, kind, protocol, _, where in dict.fromkeys(found):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # names may resolve to IPv6 on a machine without it
            failure = error
            continue
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((where[0], port, *where[2:]))
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                _close(bound)
                raise taken(Address(address.host, port), service) from error
            failure = error
        else:
            close_socket_in_forks(sock)
            bound.append(sock)
            port = sock.getsockname()[1]
    if not bound:
        detail = failure.strerror if failure else "no address"
        raise MsctlError(
            f"service {service!r} cannot listen on {address}: {detail}",
            hint="ports below 1024 need privileges; choose a higher one"
            if failure and failure.errno in (errno.EACCES, errno.EPERM)
            else "use an address of this machine, such as 127.0.0.1",
        ) from failure
    return bound


async def serve(server: asyncio.Server) -> None:
    """Let a server that was made with `start_serving=False` listen.

    Two programs may bind one port as long as neither listens. Raises OSError (EADDRINUSE) if the other was
    first, and closes the server; uvloop ignores that error of its own call.
    """
    try:
        await server.start_serving()
        if not all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for sock in server.sockets):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    except BaseException:
        server.close()
        raise


def probe_free(address: Address, service: str) -> None:
    """Raise PortTakenError if a child cannot bind this address now."""
    _close(bind(address, service))


def choose(host: str, key: str, avoid: frozenset[int] = frozenset()) -> int:
    """Choose a port that is free now, for a child to bind; the same `key` tends to get the same port.

    A port cannot be reserved for a child, so another program may take it first; the child then fails to
    bind, and its next start gets another port.
    """
    size = len(_DYNAMIC)
    offset = crc32(key.encode()) % size
    for step in range(size):
        port = _DYNAMIC[(offset + step) % size]
        if port in avoid:
            continue
        try:
            _close(bind(Address(host, port), key))
        except PortTakenError:
            continue
        return port
    raise MsctlError(f"no port from {_DYNAMIC.start} to {_DYNAMIC.stop - 1} is free on {host}")


def taken(address: Address, service: str) -> PortTakenError:
    """The error for a taken address, naming its holder if the system tells it."""
    holder = describe_holder(address.port)
    return PortTakenError(
        f"{address} is taken by {holder}; service {service!r} needs it",
        hint=f"stop that program, or give {service!r} another port in msctl.toml",
        port=address.port,
        service=service,
    )


def describe_holder(port: int) -> str:
    """ "pid 4711 (node server.js)" for the listener on a TCP port, or why it is unknown."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.AccessDenied, OSError):
        return "another user's program (run as root to see which)"
    pids = {c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port}
    for pid in sorted(pid for pid in pids if pid):
        return f"pid {pid} ({_program(pid)})"
    if pids:
        return "another user's program (run as root to see which)"
    return "another program (bound, but not listening)"


def _program(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        words = process.cmdline() or [process.name()]
    except psutil.Error:
        return "just exited"
    text = " ".join(words)
    return text if len(text) <= 80 else text[:79] + "…"


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()

"""Sockets for listeners, free ports for children, and who holds a port that is taken."""

from __future__ import annotations

import errno
import socket
from zlib import crc32

import psutil

from msctl.errors import MsctlError, PortTakenError
from msctl.model.address import Address

_DYNAMIC = range(20_000, 32_000)
"""Where children's ports are chosen: below the range from which systems take the ports of outgoing
connections, so that one chosen now is not taken by such a connection before the child binds it."""


def bind(address: Address, service: str) -> list[socket.socket]:
    """Sockets bound to every address that the host name has, not yet listening.

    Port 0 chooses a free one, the same for all. Raises PortTakenError naming the holder, and
    MsctlError for a host that is not this machine's or a port that may not be bound.
    """
    try:
        found = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise MsctlError(
            f"service {service!r} cannot listen on {address}: the host name has no address ({error})",
            hint="127.0.0.1 and localhost are this machine",
        ) from error
    bound: list[socket.socket] = []
    refusal: OSError | None = None
    port = address.port
    for family, kind, protocol, _, where in dict.fromkeys(found):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # a machine without IPv6 may still resolve names to it
            refusal = error
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
            refusal = error
        else:
            bound.append(sock)
            port = sock.getsockname()[1]
    if not bound:
        detail = refusal.strerror if refusal else "no address"
        raise MsctlError(
            f"service {service!r} cannot listen on {address}: {detail}",
            hint="ports below 1024 need privileges; choose a higher one"
            if refusal and refusal.errno in (errno.EACCES, errno.EPERM)
            else "127.0.0.1 and localhost are this machine",
        ) from refusal
    return bound


def probe_free(address: Address, service: str) -> None:
    """Raise PortTakenError if a child could not bind this address now."""
    _close(bind(address, service))


def choose(host: str, key: str, avoid: frozenset[int] = frozenset()) -> int:
    """A port that is free now, for a child to bind; the same `key` tends to get the same port.

    A port cannot be held for a child and handed over, so another program may take it in between;
    the child then fails to bind, and its next start is given another one.
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
    """The error for an address that something else holds, naming it as far as the system tells."""
    holder = describe_holder(address.port)
    return PortTakenError(
        f"{address} is taken by {holder}; service {service!r} needs it",
        hint=f"stop that program, or give {service!r} another port in msctl.toml",
    )


def describe_holder(port: int) -> str:
    """ "pid 4711 (node server.js)" for whoever listens on a TCP port, or why nobody can be named."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.AccessDenied, OSError):
        return "another program (of another user: run as root to see which)"
    pids = {c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port}
    for pid in sorted(pid for pid in pids if pid):
        return f"pid {pid} ({_program(pid)})"
    if pids:
        return "another program (of another user: run as root to see which)"
    return "another program (it holds the port without listening)"


def _program(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        words = process.cmdline() or [process.name()]
    except psutil.Error:
        return "it has just ended"
    text = " ".join(words)
    return text if len(text) <= 80 else text[:79] + "…"


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()

"""The ports of the broker: one for AMQP, one for AMQPS, or both."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msctl import ports
from msctl.forks import close_server_in_forks
from msctl.model.address import Address

if TYPE_CHECKING:
    import ssl

BACKLOG = 512
HANDSHAKE_SECONDS = 10.0
SHUTDOWN_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class TlsListener:
    """A port for AMQPS; with `only`, there is no other."""

    port: int
    context: ssl.SSLContext
    only: bool = False


async def listen(
    connection: Callable[[], asyncio.Protocol], host: str, port: int, tls: TlsListener | None
) -> list[asyncio.Server]:
    """Bind the ports, to be served later: the one for AMQP first.

    Raises OSError, and PortTakenError for the port of AMQPS.
    """
    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []
    if tls is None or not tls.only:
        plain = await loop.create_server(connection, host, port, backlog=BACKLOG, start_serving=False)
        close_server_in_forks(plain)
        servers.append(plain)
    if tls is None:
        return servers
    try:
        secure = await loop.create_server(
            connection,
            host,
            tls.port,
            backlog=BACKLOG,
            start_serving=False,
            ssl=tls.context,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS,
        )
    except OSError as error:
        for server in servers:
            server.close()
        if error.errno == errno.EADDRINUSE:
            raise ports.taken(Address(host, tls.port), "broker") from error
        raise
    close_server_in_forks(secure)
    return [*servers, secure]


def bound(server: asyncio.Server) -> tuple[str, int]:
    """The address of a server."""
    address: tuple[str, int] = server.sockets[0].getsockname()[:2]
    return address

"""The addresses behind a host name, asked for again and again: each counts as an instance of its service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from msctl.discovery import srv

MAX_ADDRESSES = 64
"""The most addresses of one name that are used."""

TIMEOUT_S = 5.0

Target = tuple[str, int]
"""An IP address and a port."""

Resolve = Callable[[str, int], Awaitable[tuple[Target, ...]]]
"""Returns the addresses of a host name at a port; raises OSError if it has none."""


async def resolve(host: str, port: int) -> tuple[Target, ...]:
    """Return the IPv4 and IPv6 addresses of `host`, sorted; raises OSError.

    By the system's resolver, in a thread: it knows /etc/hosts, mDNS and whatever else is configured.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(TIMEOUT_S):
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = sorted({str(entry[4][0]) for entry in found})
    return tuple((address, port) for address in addresses[:MAX_ADDRESSES])


async def resolve_srv(name: str, port: int) -> tuple[Target, ...]:  # noqa: ARG001 - the records say the ports
    """Return the addresses that the SRV records of `name` lead to, sorted; raises OSError."""
    text = await asyncio.to_thread(srv.RESOLV_CONF.read_text, "utf-8", "replace")
    records = await srv.ask(name, [(server, 53) for server in srv.name_servers(text)])
    found: set[Target] = set()
    failure: OSError | None = None
    for record in records[:MAX_ADDRESSES]:
        try:
            found.update(await resolve(record.target, record.port))
        except OSError as error:
            failure = error
    if not found and failure is not None:
        raise failure
    return tuple(sorted(found)[:MAX_ADDRESSES])

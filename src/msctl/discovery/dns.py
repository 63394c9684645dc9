"""The addresses of a host name, asked for again and again: each counts as an instance of its service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

MAX_ADDRESSES = 64
"""The most addresses of one name that are used."""

TIMEOUT_S = 5.0

Resolve = Callable[[str], Awaitable[tuple[str, ...]]]
"""Returns the addresses of a host name; raises OSError if it has none."""


async def resolve(host: str) -> tuple[str, ...]:
    """Return the IPv4 and IPv6 addresses of `host`, sorted; raises OSError.

    By the system's resolver, in a thread: it knows /etc/hosts, mDNS and whatever else is configured.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(TIMEOUT_S):
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = sorted({str(entry[4][0]) for entry in found})
    return tuple(addresses[:MAX_ADDRESSES])

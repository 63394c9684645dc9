"""The addresses behind a host name, asked for again and again: each counts as an instance of its service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from msctl.discovery import srv
from msctl.model.endpoint import Target

MAX_ADDRESSES = 64
"""The most addresses of one name that are used."""

TIMEOUT_S = 5.0

LIGHTEST = 0.01
"""The weight of a record with weight 0 beside others with more: "a very small chance" (RFC 2782)."""

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
    return tuple(Target(address, port) for address in addresses[:MAX_ADDRESSES])


async def resolve_srv(name: str, port: int) -> tuple[Target, ...]:  # noqa: ARG001 - the records say the ports
    """Return the addresses that the SRV records of `name` lead to, sorted; raises OSError."""
    text = await asyncio.to_thread(srv.RESOLV_CONF.read_text, "utf-8", "replace")
    records = await srv.ask(name, [(server, 53) for server in srv.name_servers(text)])
    found: set[Target] = set()
    failure: OSError | None = None
    for record in records[:MAX_ADDRESSES]:
        try:
            addresses = await resolve(record.target, record.port)
        except OSError as error:
            failure = error
            continue
        weight = _weight(record, records) / len(addresses)
        found.update(one._replace(weight=weight, priority=record.priority) for one in addresses)
    if not found and failure is not None:
        raise failure
    return tuple(sorted(found, key=lambda target: (target.priority, target))[:MAX_ADDRESSES])


def _weight(record: srv.Record, records: Sequence[srv.Record]) -> float:
    """Return the share of a record among those of its priority."""
    if any(other.weight for other in records if other.priority == record.priority):
        return record.weight or LIGHTEST
    return 1.0

"""Detect a server that speaks AMQP, without a client library and without login."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from enum import Enum

from msctl.model.broker_url import parse_url

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
PROBE_TIMEOUT = 1.0
EMBEDDED_CLUSTER = b"msctl@localhost"
"""The `cluster_name` that an embedded broker announces."""
_LARGEST_START = 64 * 1024
_NOT_AMQP = "no AMQP server answers there"


class AmqpServer(Enum):
    """Who answers at a URL."""

    NONE = "none"
    EMBEDDED = "embedded"
    """The embedded broker of a stack."""
    OTHER = "other"
    """RabbitMQ, or another AMQP 0-9-1 server."""


async def speaks_amqp(url: str, timeout: float = PROBE_TIMEOUT) -> bool:
    """Whether the server at `url` answers the AMQP 0-9-1 header with a method frame on channel 0."""
    return await amqp_server(url, timeout) is not AmqpServer.NONE


async def amqp_server(url: str, timeout: float = PROBE_TIMEOUT) -> AmqpServer:
    """The kind of server at `url`, by the first frame that it sends (connection.start)."""
    return (await probe(url, timeout))[0]


async def probe(url: str, timeout: float = PROBE_TIMEOUT) -> tuple[AmqpServer, str]:
    """The kind of server at `url`, and why there is none; the reason is empty if there is one."""
    parsed = parse_url(url)
    host, tls = parsed.host, parsed.tls
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, parsed.port, ssl=tls or None)
            try:
                writer.write(PROTOCOL_HEADER)
                if await reader.readexactly(3) != b"\x01\x00\x00":
                    return AmqpServer.NONE, _NOT_AMQP
                embedded = EMBEDDED_CLUSTER in await _start(reader)
                return (AmqpServer.EMBEDDED if embedded else AmqpServer.OTHER), ""
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except socket.gaierror:
        return AmqpServer.NONE, f"the host {host!r} cannot be resolved"
    except ConnectionRefusedError:
        return AmqpServer.NONE, "nothing listens there"
    except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
        return AmqpServer.NONE, _NOT_AMQP


async def _start(reader: asyncio.StreamReader) -> bytes:
    """The payload of the frame after its type and channel; empty if it does not come whole."""
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        return await reader.readexactly(size) if size <= _LARGEST_START else b""
    except (OSError, asyncio.IncompleteReadError):
        return b""

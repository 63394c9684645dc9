"""Detect a server that speaks AMQP, without a client library and without login."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
PROBE_TIMEOUT = 1.0


async def speaks_amqp(url: str, timeout: float = PROBE_TIMEOUT) -> bool:
    """Whether the server at `url` answers the AMQP 0-9-1 header with a method frame on channel 0."""
    parts = urlsplit(url)
    tls = parts.scheme == "amqps"
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(
                parts.hostname or "localhost", parts.port or (5671 if tls else 5672), ssl=tls or None
            )
            try:
                writer.write(PROTOCOL_HEADER)
                return await reader.readexactly(3) == b"\x01\x00\x00"
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
        return False

"""Compression that does not stall the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

IN_LOOP = 64 * 1024
"""The bytes that are compressed without another thread."""


async def compressed(compress: Callable[[bytes], bytes], data: bytes) -> bytes:
    """Return `compress(data)`, called in another thread if `data` is long."""
    if len(data) <= IN_LOOP:
        return compress(data)
    return await asyncio.to_thread(compress, data)

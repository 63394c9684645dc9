"""Closes connections that do not send a request head in time: aiohttp itself waits without limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

HEAD_TIMEOUT_S = 10.0
"""For the first request of a connection; later ones have the keep-alive timeout."""


class HeadTimeout:
    """Watches an aiohttp server's connections from their start until their first request arrives."""

    def __init__(self, most: int | None = None) -> None:
        """`most` is how many connections may wait with their first request."""
        self._most = most
        self._timers: dict[Any, asyncio.TimerHandle] = {}

    def watching(self, server: Callable[[], Any]) -> Callable[[], asyncio.Protocol]:
        """A protocol factory that starts a timer for each connection."""

        def connect() -> asyncio.Protocol:
            protocol: asyncio.Protocol = server()
            loop = asyncio.get_running_loop()
            if self._most is not None and len(self._timers) >= self._most:
                self._expire(next(iter(self._timers)))
            self._timers[protocol] = loop.call_later(HEAD_TIMEOUT_S, self._expire, protocol)
            return protocol

        return connect

    def arrived(self, protocol: Any) -> None:
        """A request has arrived on the connection."""
        timer = self._timers.pop(protocol, None)
        if timer is not None:
            timer.cancel()

    def _expire(self, protocol: Any) -> None:
        timer = self._timers.pop(protocol, None)
        if timer is not None:
            timer.cancel()
        protocol.force_close()

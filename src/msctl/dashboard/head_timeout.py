"""Closes connections that do not send a request head in time: aiohttp itself waits without limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

HEAD_TIMEOUT_S = 10.0
"""For the first request of a connection; later ones have the keep-alive timeout."""


class HeadTimeout:
    """Watches connections from their start until their first request arrives."""

    def __init__(self) -> None:
        self._timers: dict[Any, asyncio.TimerHandle] = {}

    def watching(self, server: web.Server) -> Callable[[], asyncio.Protocol]:
        """A protocol factory that starts a timer for each connection."""

        def connect() -> asyncio.Protocol:
            protocol = server()
            loop = asyncio.get_running_loop()
            self._timers[protocol] = loop.call_later(HEAD_TIMEOUT_S, self._expire, protocol)
            return protocol

        return connect

    def arrived(self, protocol: Any) -> None:
        """A request has arrived on the connection."""
        timer = self._timers.pop(protocol, None)
        if timer is not None:
            timer.cancel()

    def _expire(self, protocol: Any) -> None:
        self._timers.pop(protocol, None)
        protocol.force_close()

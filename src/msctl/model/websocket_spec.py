"""The WebSockets of a hosted ASGI application: what `[services.NAME.websocket]` says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WebSocketSpec:
    """Limits and habits of the server's side; the defaults are uvicorn's.

    `max_size` is in bytes, of a whole message after decompression. A client is asked every `ping_interval`
    seconds whether it is there (0: never), and has `ping_timeout` seconds to answer (0: for ever).
    """

    max_size: int = 16 * 1024 * 1024
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    compression: bool = True

"""The end of a connection whose client may still be sending (RFC 9112 §9.6).

To close a socket with unread bytes resets it, and the client might never read the response. So only our side
is shut down, and what arrives is dropped, until the client ends, is silent, or has sent the rest of a body of
known length; or for half a minute.
"""

from __future__ import annotations

import asyncio

LINGER_S = 30.0
"""How long a connection is read after its last response, while the client still sends."""
SILENCE_S = 2.0
"""How long the client may send nothing meanwhile."""


class Lingering:
    """Drops what a client sends, and closes the transport."""

    __slots__ = ("_deadline", "_left", "_loop", "_received", "_timer", "_transport")

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        *,
        left: int | None,
        half_close: bool,
    ) -> None:
        """`left` is how much the client will still send, if known; `half_close` is impossible over TLS."""
        self._transport = transport
        self._loop = loop
        self._left = left
        self._received = False
        self._deadline = loop.time() + LINGER_S
        if half_close:
            transport.write_eof()
        self._timer = loop.call_later(SILENCE_S, self._check)

    def data_received(self, data: bytes) -> None:
        self._received = True
        if self._left is not None:
            self._left -= len(data)
            if self._left <= 0:
                self._transport.close()

    def cancel(self) -> None:
        """Stop: the connection is lost."""
        self._timer.cancel()

    def _check(self) -> None:
        if self._loop.time() >= self._deadline:
            self._transport.abort()
        elif self._received or self._transport.get_write_buffer_size():
            self._received = False
            self._timer = self._loop.call_later(SILENCE_S, self._check)
        else:
            self._transport.close()

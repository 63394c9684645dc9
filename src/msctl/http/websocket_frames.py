"""WebSocket frame boundaries (RFC 6455 §5.2), for a relay that inserts a close frame. Pure."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

GOING_AWAY = 1001
"""RFC 6455 §7.4.1."""


class FrameTracker:
    """Tracks the frame boundaries of a byte stream."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    @property
    def at_boundary(self) -> bool:
        return not self._left and not self._head

    def advance(self, data: bytes, *, stop: bool = False) -> int:
        """Consume `data`, with `stop` only up to the next frame boundary; return the bytes consumed."""
        position, size = 0, len(data)
        while position < size:
            if self._left:
                step = min(self._left, size - position)
                self._left -= step
                position += step
            else:
                need = _head_size(self._head) - len(self._head)
                self._head += data[position : position + need]
                position += min(need, size - position)
                if len(self._head) == _head_size(self._head):
                    self._left = _payload_size(self._head)
                    self._head = b""
            if stop and self.at_boundary:
                break
        return position


class ClosingRelay:
    """Passes the bytes of one direction on, and ends it with a close frame between two frames."""

    __slots__ = ("_closing", "_masked", "_send", "_tracker", "closed")

    def __init__(self, send: Callable[[bytes], object], *, masked: bool) -> None:
        """`masked` is the direction from a client to a server (RFC 6455 §5.3)."""
        self._send = send
        self._masked = masked
        self._tracker = FrameTracker()
        self._closing: int | None = None
        self.closed = False

    def feed(self, data: bytes) -> None:
        """Pass `data` on; what follows the close frame is dropped."""
        if self.closed:
            return
        if self._closing is None:
            self._tracker.advance(data)
            self._send(data)
            return
        self._send(data[: self._tracker.advance(data, stop=True)])
        self._close(self._closing)

    def close(self, code: int) -> None:
        """Send a close frame now, or after the frame that is under way."""
        if self._closing is None:
            self._closing = code
            self._close(code)

    def _close(self, code: int) -> None:
        if self._tracker.at_boundary and not self.closed:
            self.closed = True
            self._send(close_frame(code, mask=os.urandom(4) if self._masked else None))


def _head_size(head: bytes) -> int:
    """Return the size of a frame head; its first two bytes determine it."""
    if len(head) < 2:
        return 2
    length = head[1] & 0x7F
    return 2 + (8 if length == 127 else 2 if length == 126 else 0) + (4 if head[1] & 0x80 else 0)


def _payload_size(head: bytes) -> int:
    length = head[1] & 0x7F
    if length == 127:
        return int(struct.unpack_from("!Q", head, 2)[0])
    if length == 126:
        return int(struct.unpack_from("!H", head, 2)[0])
    return length


def close_frame(code: int, reason: str = "", *, mask: bytes | None = None) -> bytes:
    """Return a close frame; frames from clients are masked with the four bytes of `mask` (§5.3)."""
    payload = struct.pack("!H", code) + reason.encode()[:123]
    if mask is None:
        return struct.pack("!BB", 0x88, len(payload)) + payload
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return struct.pack("!BB", 0x88, 0x80 | len(payload)) + mask + masked

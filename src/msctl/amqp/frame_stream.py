"""The byte stream of one connection, split by frames: deliveries and confirms go straight to their channel.

aiormq reads a frame in three awaits, decodes it into objects, passes it through a queue and starts a task
for each delivery. That costs more than everything else that `send` and `consume` do. So a channel can give a
sink for its content and confirms; here, in the callback of the socket, complete frames are offered to it.

Invariant: what aiormq reads stays a sequence of whole frames in the order of arrival; only frames that a sink
took are missing. A sink takes a method together with its content or neither. What does not look like frames
(a server that does not speak AMQP) goes to aiormq as it is.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Protocol

METHOD, HEADER, BODY, HEARTBEAT_TYPE = 1, 2, 3, 8
_TYPES = frozenset({METHOD, HEADER, BODY, HEARTBEAT_TYPE})
_HEAD = struct.Struct(">BHI")
_END_BYTES = 1
_HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
_HEARTBEAT_EVERY_S = 5.0
_LARGEST_FRAME = 64 * 1024 * 1024
"""A larger size is no frame of a broker that speaks AMQP: 131072 bytes are usual."""


class Sink(Protocol):
    """Takes frames of one channel, in the callback of the socket: it must not block."""

    def frame(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Take the frame with the payload data[start:end], or return False to leave it to aiormq."""
        ...

    def flush(self) -> None:
        """Called once after the frames of one read."""
        ...


class FrameStream(asyncio.StreamReader):
    """aiormq's reader of one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._clock = loop.time
        self._sinks: dict[int, Sink] = {}
        self._partial = b""
        self._plain = False
        self._passed_at = loop.time()

    def attach(self, channel: int, sink: Sink) -> None:
        """Offer the frames of `channel` to `sink` from now on."""
        self._sinks[channel] = sink

    def detach(self, channel: int) -> None:
        self._sinks.pop(channel, None)

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # the loop gives bytes
        if self._plain:
            super().feed_data(data)
            return
        if self._partial:
            data = self._partial + data
        passed: list[bytes] = []
        position = kept = 0  # data[kept:position] is for aiormq
        size_of_all = len(data)
        touched: set[Sink] = set()
        sinks = self._sinks
        while size_of_all - position >= _HEAD.size:
            kind, channel, size = _HEAD.unpack_from(data, position)
            if kind not in _TYPES or size > _LARGEST_FRAME:
                self._plain = True
                position = size_of_all
                break
            end = position + _HEAD.size + size + _END_BYTES
            if end > size_of_all:
                break
            sink = sinks.get(channel)
            if sink is not None and self._taken(sink, kind, data, position + _HEAD.size, end - _END_BYTES):
                touched.add(sink)
                if kept < position:
                    passed.append(data[kept:position])
                kept = end
            position = end
        if kept < position:
            passed.append(data[kept:position])
        self._partial = data[position:]
        self._pass_on(passed)
        for sink in touched:
            sink.flush()

    def feed_eof(self) -> None:
        if self._partial:
            super().feed_data(self._partial)
            self._partial = b""
        super().feed_eof()

    @staticmethod
    def _taken(sink: Sink, kind: int, data: bytes, start: int, end: int) -> bool:
        try:
            return sink.frame(kind, data, start, end)
        except (struct.error, IndexError):
            return False  # it is cut short: aiormq says so and closes the connection

    def _pass_on(self, parts: list[bytes]) -> None:
        """Give aiormq its frames; without any for a while, a heartbeat, since it watches for silence."""
        now = self._clock()
        if parts:
            super().feed_data(b"".join(parts))
        elif now - self._passed_at < _HEARTBEAT_EVERY_S:
            return
        else:
            super().feed_data(_HEARTBEAT)
        self._passed_at = now


def short_string(data: bytes, at: int) -> tuple[bytes, int]:
    """Read a short string; returns it and the position after it."""
    end = at + 1 + data[at]
    return data[at + 1 : end], end

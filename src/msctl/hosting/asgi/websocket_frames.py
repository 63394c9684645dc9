"""WebSocket frames of a server (RFC 6455 §5): bytes in, messages out. Pure.

`FrameReader` holds at most one frame and one message, each bounded by `max_message`. Text is decoded as its
frames arrive, so invalid UTF-8 is found before the message ends (§8.1); compressed messages are passed on as
they are.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import struct
from dataclasses import dataclass

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_CONTINUATION = 0x0
_RSV1 = 0x40
"""Marks the first frame of a compressed message (RFC 7692 §6)."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_DATA = frozenset({_CONTINUATION, TEXT, BINARY})
_CONTROL = frozenset({CLOSE, PING, PONG})
NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_CODE, ABNORMAL = 1000, 1001, 1002, 1005, 1006
INVALID_DATA, TOO_BIG, INTERNAL_ERROR = 1007, 1009, 1011
SENDABLE = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
"""The close codes below 3000 that may be on the wire (§7.4.1)."""


class FrameError(Exception):
    """The peer broke the protocol; `code` closes the connection."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Closed:
    """The peer's close frame; NO_CODE where it has none."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Control:
    """A ping or a pong."""

    opcode: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Compressed:
    """A message of opcode TEXT or BINARY, compressed."""

    opcode: int
    payload: bytes

    def __len__(self) -> int:
        return len(self.payload)


Received = str | bytes | Compressed | Control | Closed


class FrameReader:
    """Decodes what one client sends."""

    def __init__(self, max_message: int, *, compression: bool = False) -> None:
        """`compression` allows RSV1 on the first frame of a message (RFC 7692 §6)."""
        self._max = max_message
        self._compression = compression
        self._buffer = bytearray()
        self._opcode = 0
        """The opcode of the message whose fragments arrive; 0 between messages."""
        self._compressed = False
        """Whether that message is compressed."""
        self._message = bytearray()
        """The fragments so far: in one piece, since there may be one for each byte."""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, data: bytes, found: list[Received]) -> None:
        """Append what `data` completes to `found`. Raises FrameError; what came before it is in `found`."""
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while (head := self._head(at)) is not None:
                final, rsv1, opcode, start, end = head
                if end > len(buffer):
                    break
                payload = _unmasked(buffer[start - 4 : start], bytes(buffer[start:end]))
                at = end
                if opcode in _CONTROL:
                    received: Received | None = self._control(opcode, payload)
                else:
                    if opcode != _CONTINUATION:
                        self._opcode, self._compressed = opcode, rsv1
                    received = self._data(payload, final)
                if received is not None:
                    found.append(received)
        finally:
            del buffer[:at]

    def _head(self, at: int) -> tuple[bool, bool, int, int, int] | None:
        """Return final, RSV1, opcode, start and end of the payload of the frame at `at`; None for a part."""
        buffer = self._buffer
        if len(buffer) < at + 2:
            return None
        first, second = buffer[at], buffer[at + 1]
        final, opcode, length = bool(first & 0x80), first & 0x0F, second & 0x7F
        if first & 0x70 and (first & 0x70 != _RSV1 or not self._compression or opcode not in (TEXT, BINARY)):
            raise FrameError(PROTOCOL_ERROR, "a reserved bit is set")
        if not second & 0x80:
            raise FrameError(PROTOCOL_ERROR, "a frame is not masked")
        if opcode in _CONTROL:
            if length > 125 or not final:
                raise FrameError(PROTOCOL_ERROR, "a control frame is fragmented or too long")
        elif opcode not in _DATA:
            raise FrameError(PROTOCOL_ERROR, f"unknown opcode {opcode:#x}")
        elif (opcode == _CONTINUATION) != bool(self._opcode):
            raise FrameError(PROTOCOL_ERROR, "the fragments of a message are out of order")
        start = at + 2 + (8 if length == 127 else 2 if length == 126 else 0) + 4
        if len(buffer) < start:
            return None
        if length == 126:
            (length,) = struct.unpack_from("!H", buffer, at + 2)
        elif length == 127:
            (length,) = struct.unpack_from("!Q", buffer, at + 2)
        if opcode in _DATA and len(self._message) + length > self._max:
            raise FrameError(TOO_BIG, f"a message is longer than {self._max} bytes")
        return final, bool(first & _RSV1), opcode, start, start + length

    def _control(self, opcode: int, payload: bytes) -> Control | Closed:
        if opcode != CLOSE:
            return Control(opcode, payload)
        if not payload:
            return Closed(NO_CODE, "")
        if len(payload) == 1:
            raise FrameError(PROTOCOL_ERROR, "a close frame is cut off")
        (code,) = struct.unpack_from("!H", payload)
        if code not in SENDABLE and not 3000 <= code <= 4999:
            raise FrameError(PROTOCOL_ERROR, f"invalid close code {code}")
        try:
            return Closed(code, payload[2:].decode())
        except UnicodeDecodeError:
            raise FrameError(INVALID_DATA, "a close reason is not UTF-8") from None

    def _data(self, payload: bytes, final: bool) -> str | bytes | Compressed | None:
        opcode, message = self._opcode, self._message
        is_text = opcode == TEXT and not self._compressed
        text = ""
        if is_text:
            try:
                text = self._decoder.decode(payload, final)
            except UnicodeDecodeError:
                raise FrameError(INVALID_DATA, "a text message is not UTF-8") from None
        if not final:
            message += payload
            return None
        self._opcode = 0
        if message:
            payload = bytes(message + payload)
            message.clear()
            text = payload.decode() if is_text else ""
        if self._compressed:
            return Compressed(opcode, payload)
        return text if is_text else payload


def frame(opcode: int, payload: bytes, *, compressed: bool = False) -> bytes:
    """Return an unfragmented frame of a server."""
    size = len(payload)
    first = (0x80 | _RSV1 if compressed else 0x80) | opcode
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 0x10000:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def close_frame(code: int, reason: str) -> bytes:
    """Return a close frame; NO_CODE gives one without a code. A reason has at most 123 bytes (§5.5.1)."""
    if code == NO_CODE:
        return frame(CLOSE, b"")
    text = reason.encode()[:123].decode("utf-8", "ignore").encode()
    return frame(CLOSE, struct.pack("!H", code) + text)


def accept_key(key: bytes) -> bytes | None:
    """Return the Sec-WebSocket-Accept of a Sec-WebSocket-Key (§4.2.2); None for an invalid key."""
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            return None
    except ValueError:
        return None
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _unmasked(mask: bytes | bytearray, payload: bytes) -> bytes:
    # As one long number: a loop over the bytes would take a thousand times as long.
    size = len(payload)
    key = int.from_bytes((bytes(mask) * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")

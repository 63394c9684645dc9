"""WebSocket frames of a server (RFC 6455 §5): bytes in, messages out. Pure.

`FrameReader` holds at most one frame and one message, each bounded by `max_message`. Text is decoded as its
frames arrive, so invalid UTF-8 is found before the message ends (§8.1).
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import struct
from dataclasses import dataclass

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_CONTINUATION = 0x0
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_DATA = frozenset({_CONTINUATION, TEXT, BINARY})
_CONTROL = frozenset({CLOSE, PING, PONG})
NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_CODE, ABNORMAL = 1000, 1001, 1002, 1005, 1006
INVALID_TEXT, TOO_BIG, INTERNAL_ERROR = 1007, 1009, 1011
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


Received = str | bytes | Control | Closed


class FrameReader:
    """Decodes what one client sends."""

    def __init__(self, max_message: int) -> None:
        self._max = max_message
        self._buffer = bytearray()
        self._opcode: int | None = None
        """The opcode of the message whose fragments arrive."""
        self._pieces: list[bytes] = []
        self._texts: list[str] = []
        self._size = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, data: bytes, found: list[Received]) -> None:
        """Append what `data` completes to `found`. Raises FrameError; what came before it is in `found`."""
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while (head := self._head(at)) is not None:
                final, opcode, start, end = head
                if end > len(buffer):
                    break
                payload = _unmasked(buffer[start - 4 : start], bytes(buffer[start:end]))
                at = end
                received = (
                    self._control(opcode, payload)
                    if opcode in _CONTROL
                    else (self._data(opcode, payload, final))
                )
                if received is not None:
                    found.append(received)
        finally:
            del buffer[:at]

    def _head(self, at: int) -> tuple[bool, int, int, int] | None:
        """Return final, opcode, start and end of the payload of the frame at `at`; None if it is cut off."""
        buffer = self._buffer
        if len(buffer) < at + 2:
            return None
        first, second = buffer[at], buffer[at + 1]
        final, opcode, length = bool(first & 0x80), first & 0x0F, second & 0x7F
        if first & 0x70:
            raise FrameError(PROTOCOL_ERROR, "a reserved bit is set")
        if not second & 0x80:
            raise FrameError(PROTOCOL_ERROR, "a frame is not masked")
        if opcode in _CONTROL:
            if length > 125 or not final:
                raise FrameError(PROTOCOL_ERROR, "a control frame is fragmented or too long")
        elif opcode not in _DATA:
            raise FrameError(PROTOCOL_ERROR, f"unknown opcode {opcode:#x}")
        elif (opcode == _CONTINUATION) != (self._opcode is not None):
            raise FrameError(PROTOCOL_ERROR, "the fragments of a message are out of order")
        start = at + 2 + (8 if length == 127 else 2 if length == 126 else 0) + 4
        if len(buffer) < start:
            return None
        if length == 126:
            (length,) = struct.unpack_from("!H", buffer, at + 2)
        elif length == 127:
            (length,) = struct.unpack_from("!Q", buffer, at + 2)
        if opcode in _DATA and self._size + length > self._max:
            raise FrameError(TOO_BIG, f"a message is longer than {self._max} bytes")
        return final, opcode, start, start + length

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
            raise FrameError(INVALID_TEXT, "a close reason is not UTF-8") from None

    def _data(self, opcode: int, payload: bytes, final: bool) -> str | bytes | None:
        if opcode != _CONTINUATION:
            self._opcode = opcode
        self._size += len(payload)
        if self._opcode == TEXT:
            try:
                self._texts.append(self._decoder.decode(payload, final))
            except UnicodeDecodeError:
                raise FrameError(INVALID_TEXT, "a text message is not UTF-8") from None
        else:
            self._pieces.append(payload)
        if not final:
            return None
        message: str | bytes = "".join(self._texts) if self._opcode == TEXT else b"".join(self._pieces)
        self._opcode, self._size = None, 0
        self._pieces.clear()
        self._texts.clear()
        return message


def frame(opcode: int, payload: bytes) -> bytes:
    """Return an unfragmented frame of a server."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x80 | opcode, size) + payload
    if size < 0x10000:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


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

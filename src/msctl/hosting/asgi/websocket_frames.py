"""WebSocket frames of a server (RFC 6455 §5): bytes in, messages out. Pure.

`FrameReader` holds at most one message, bounded by `max_message`. Payload is taken as it arrives, also of a
frame that is not complete, and text decoded, so invalid UTF-8 is found before the message ends (§8.1);
compressed messages are passed on as they are.
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
    """Decodes what one client sends, as it arrives: no call takes longer because a message is long."""

    def __init__(self, max_message: int, *, compression: bool = False) -> None:
        """`compression` allows RSV1 on the first frame of a message (RFC 7692 §6)."""
        self._max = max_message
        self._compression = compression
        self._buffer = bytearray()
        self._control_opcode = 0
        """The opcode of a control frame whose payload is next, else 0."""
        self._left: int | None = None
        """The bytes missing of the frame whose payload arrives; None before its head."""
        self._mask = b""
        self._final = False
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
            while True:
                if self._left is None:
                    start = self._head(at)
                    if start is None:
                        break
                    at = start
                left = self._left or 0
                piece = _unmasked(self._mask, buffer[at : at + left])
                at += len(piece)
                left -= len(piece)
                self._left = left or None
                if self._control_opcode:
                    found.append(self._control(self._control_opcode, bytes(piece)))
                    continue
                received = self._data(piece, self._final and not left)
                if received is not None:
                    found.append(received)
                if left:
                    turn = len(piece) % 4
                    self._mask = self._mask[turn:] + self._mask[:turn]
                    break
        finally:
            del buffer[:at]

    def _head(self, at: int) -> int | None:
        """Read the head of the frame at `at`; return where its payload begins, None while some is missing."""
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
        if len(buffer) < (start + length if opcode in _CONTROL else start):
            return None
        if length == 126:
            (length,) = struct.unpack_from("!H", buffer, at + 2)
        elif length == 127:
            (length,) = struct.unpack_from("!Q", buffer, at + 2)
        if opcode in _CONTROL:
            self._control_opcode = opcode
        else:
            if len(self._message) + length > self._max:
                raise FrameError(TOO_BIG, f"a message is longer than {self._max} bytes")
            self._control_opcode = 0
            self._final = final
            if opcode != _CONTINUATION:
                self._opcode, self._compressed = opcode, bool(first & _RSV1)
        self._left = length
        self._mask = bytes(buffer[start - 4 : start])
        return start

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

    def _data(self, piece: bytearray, last: bool) -> str | bytes | Compressed | None:
        opcode, message = self._opcode, self._message
        is_text = opcode == TEXT and not self._compressed
        text = ""
        if is_text:
            try:
                text = self._decoder.decode(piece, last)
            except UnicodeDecodeError:
                raise FrameError(INVALID_DATA, "a text message is not UTF-8") from None
        if not last:
            message += piece
            return None
        self._opcode = 0
        if message:
            message += piece
            piece, self._message = message, bytearray()
            text = piece.decode() if is_text else ""
        if self._compressed:
            return Compressed(opcode, bytes(piece))
        return text if is_text else bytes(piece)


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


def _table(byte: int) -> bytes:
    """Return what each byte is with `byte` as its mask."""
    return (_ALL ^ int.from_bytes(bytes([byte]) * 256)).to_bytes(256)


_ALL = int.from_bytes(bytes(range(256)))
_TABLES = [_table(byte) for byte in range(256)]


def _unmasked(mask: bytes, payload: bytearray) -> bytearray:
    """Remove the mask (§5.3), in place; every fourth byte at once, since a loop would take far longer."""
    for position, byte in enumerate(mask):
        payload[position::4] = payload[position::4].translate(_TABLES[byte])
    return payload

"""Compression of WebSocket messages: the permessage-deflate extension (RFC 7692) of a server.

With context takeover a message may refer to those before it, so both sides must see the same messages in the
same order: the session holds a lock from compression to write, and a message that is compressed but not sent
ends its context.

Windows and memory level are those of `websockets`: an eighth of what zlib takes by default. A connection
takes about 40 KiB once it has sent a message, and 13 KiB once it has received one, or 45 KiB from a client
that cannot limit its window; nothing before that, and nothing between messages without context takeover.

A compressed message may be a thousand times as long as its frames, so `Inflation` works in steps of at most
STEP bytes, and stops at the limit: a decompression bomb allocates no more than the longest message. Input is
passed in steps, too: zlib copies what it leaves unread.

zlib is used directly. aiohttp's WebSocketReader has an inflater, but accepts frames without a mask and RSV1
on control frames, and inflates a whole message on the loop.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from msctl.hosting.asgi.websocket_frames import INVALID_DATA, TEXT, TOO_BIG, Compressed, FrameError
from msctl.hosting.compression import compressed

STEP = 64 * 1024
"""Bytes that one step inflates, and reads, at most."""
_NAME = b"permessage-deflate"
_WINDOW_BITS = 12
_MEMORY_LEVEL = 5
_LARGEST_WINDOW = 15
_SMALLEST_WINDOW = 9
"""zlib's own: it does not compress with a window of 2^8 bytes."""
_TAIL = b"\x00\x00\xff\xff"
"""The end of an empty block, which is left out of each message (RFC 7692 §7.2.1)."""
_MAX_STREAMS = 1024
"""Deflate streams that one message may consist of: each is a copy of what follows it."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_VALUE = rb'(?:[ \t]*+=[ \t]*+(?:(%b)|"((?:[^"\\]|\\.)*+)"))?+' % _TOKEN
_PARAMETER = re.compile(rb"[ \t]*+;[ \t]*+(%b)%b" % (_TOKEN, _VALUE))
_EXTENSION = re.compile(rb"[ \t]*+(?:(%b)((?:%b)*+))?+[ \t]*+(?:,|\Z)" % (_TOKEN, _PARAMETER.pattern))
_ESCAPED = re.compile(rb"\\(.)")
_BITS = {str(bits).encode(): bits for bits in range(8, _LARGEST_WINDOW + 1)}


@dataclass(frozen=True, slots=True)
class Agreement:
    """The parameters of a connection. Each window size is the sender's."""

    server_window_bits: int = _WINDOW_BITS
    client_window_bits: int | None = None
    """None for a client that cannot limit its window."""
    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False

    def field(self) -> bytes:
        """Return the Sec-WebSocket-Extensions of the response."""
        parts = [_NAME]
        if self.server_no_context_takeover:
            parts.append(b"server_no_context_takeover")
        if self.client_no_context_takeover:
            parts.append(b"client_no_context_takeover")
        parts.append(b"server_max_window_bits=%d" % self.server_window_bits)
        if self.client_window_bits is not None:
            parts.append(b"client_max_window_bits=%d" % self.client_window_bits)
        return b"; ".join(parts)


def agreement(offers: bytes) -> Agreement | None:
    """Return what the first acceptable offer of a Sec-WebSocket-Extensions agrees on, None if there is none.

    Other extensions are declined, and so are offers with unknown, repeated or invalid parameters (RFC 7692
    §7.1). Raises ValueError for a field that is malformed (RFC 6455 §9.1).
    """
    found: Agreement | None = None
    at = 0
    while at < len(offers):
        match = _EXTENSION.match(offers, at)
        if match is None:
            raise ValueError("malformed Sec-WebSocket-Extensions")
        if found is None and match[1] == _NAME:
            found = _answer(match[2])
        at = match.end()
    return found


def _answer(parameters: bytes) -> Agreement | None:
    """Return the answer to one offer; None declines it."""
    offered: dict[bytes, bytes | None] = {}
    for match in _PARAMETER.finditer(parameters):
        name, value, quoted = match.groups()
        if quoted is not None:
            value = _ESCAPED.sub(rb"\1", quoted)
        if name in offered:
            return None
        offered[name] = value
    server_bits, client_bits = _WINDOW_BITS, None
    for name, value in offered.items():
        match name, value:
            case ((b"server_no_context_takeover" | b"client_no_context_takeover"), None):
                pass
            case b"server_max_window_bits", bytes() if _BITS.get(value, 0) >= _SMALLEST_WINDOW:
                server_bits = min(_BITS[value], _WINDOW_BITS)
            case b"client_max_window_bits", None:
                client_bits = _WINDOW_BITS
            case b"client_max_window_bits", bytes() if value in _BITS:
                client_bits = min(_BITS[value], _WINDOW_BITS)
            case _:
                return None
    return Agreement(
        server_bits,
        client_bits,
        b"server_no_context_takeover" in offered,
        b"client_no_context_takeover" in offered,
    )


class Deflater:
    """Compresses the messages of the server. One call at a time: each continues the one before."""

    def __init__(self, agreed: Agreement) -> None:
        self._bits = agreed.server_window_bits
        self._keeps_context = not agreed.server_no_context_takeover
        self._stream: zlib._Compress | None = None

    async def deflate(self, payload: bytes) -> bytes:
        """Return the payload of the compressed message.

        A call that is cancelled has no effect: the client does not get its message, so the next one begins
        a new context.
        """
        stream, self._stream = self._stream, None
        if stream is None:
            stream = zlib.compressobj(wbits=-self._bits, memLevel=_MEMORY_LEVEL)

        def compress(data: bytes) -> bytes:
            return stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)

        payload = await compressed(compress, payload)
        if self._keeps_context:
            self._stream = stream
        return payload.removesuffix(_TAIL)


class Inflater:
    """Decompresses the messages of one client."""

    def __init__(self, agreed: Agreement, max_message: int) -> None:
        self._bits = agreed.client_window_bits or _LARGEST_WINDOW
        self._keeps_context = not agreed.client_no_context_takeover
        self.max_message = max_message
        self._stream: zlib._Decompress | None = None

    def inflation(self, message: Compressed) -> Inflation:
        """Return the work on a message; messages have to be worked on in order."""
        return Inflation(self, message)

    def stream(self) -> zlib._Decompress:
        if self._stream is None:
            self._stream = zlib.decompressobj(-self._bits)
        return self._stream

    def end_message(self) -> None:
        if not self._keeps_context:
            self._stream = None

    def end_stream(self) -> None:
        self._stream = None


class Inflation:
    """Decompresses one message, step by step."""

    __slots__ = ("_at", "_inflater", "_is_text", "_left", "_payload", "_pieces", "_size", "_streams")

    def __init__(self, inflater: Inflater, message: Compressed) -> None:
        self._inflater = inflater
        self._is_text = message.opcode == TEXT
        self._payload = message.payload + _TAIL
        self._at = 0
        self._left = b""
        """What zlib has left of the input that it was passed."""
        self._pieces: list[bytes] = []
        self._size = 0
        self._streams = 1

    def __len__(self) -> int:
        return len(self._payload) - len(_TAIL)

    def step(self) -> str | bytes | None:
        """Inflate a piece; return the message once it is complete. Raises FrameError."""
        stream = self._inflater.stream()
        data = self._left
        if not data:
            data = self._payload[self._at : self._at + STEP]
            self._at += len(data)
        try:
            piece = stream.decompress(data, STEP)
        except zlib.error as error:
            raise FrameError(INVALID_DATA, "a message is not valid deflate data") from error
        self._left = stream.unconsumed_tail
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > self._inflater.max_message:
            raise FrameError(TOO_BIG, f"a message is longer than {self._inflater.max_message} bytes")
        if stream.eof:
            self._next_stream(stream.unused_data)
        # The last input is an empty block: once that is read, zlib has no output left.
        if self._left or self._at < len(self._payload):
            return None
        self._inflater.end_message()
        content = b"".join(self._pieces)
        try:
            return content.decode() if self._is_text else content
        except UnicodeDecodeError as error:
            raise FrameError(INVALID_DATA, "a text message is not UTF-8") from error

    def _next_stream(self, rest: bytes) -> None:
        """Continue after a final block, which a message may contain (RFC 7692 §7.2.3.4)."""
        self._inflater.end_stream()
        self._streams += 1
        if self._streams > _MAX_STREAMS:
            raise FrameError(INVALID_DATA, f"a message has more than {_MAX_STREAMS} final blocks")
        self._at -= len(rest)
        self._left = b""
        if len(self._payload) - self._at == len(_TAIL):  # nothing follows it
            self._at = len(self._payload)

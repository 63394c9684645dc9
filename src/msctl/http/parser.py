"""The server's side of HTTP/1.1 without I/O: bytes in, one request at a time out.

    feed(data) ──► next_head() ──► next_piece() … ──► complete ──► next_head() ──► …

`feed` only keeps the bytes. `next_head` and `next_piece` take from them what has arrived, so a request that
follows another on the connection is not looked at before the first is finished: pipelining is in order, and
bounded by the bytes that the connection is willing to keep.

Invariant: how the bytes were split does not matter. `next_head` decides on a whole head, or on a prefix of it
that no further byte can make valid, in this order: the first byte, the request line and its length, a bare
LF, the size of the head, its fields. Each looks only at bytes before those of the next. A head that is
refused is the last thing a connection is asked for.
"""

from __future__ import annotations

import re

from msctl.http import refusals
from msctl.http.chunked import ChunkedDecoder
from msctl.http.head_reader import HeadReader
from msctl.model.exchange import Field, RequestHead

_EMPTY_LINES = re.compile(rb"(?:\r\n)*")
_CR = 0x0D


class RequestParser:
    """Parses one connection's requests.

    `buffer` is what is kept and not taken yet. `complete` is whether the body of the last head has arrived;
    `trailers` are then its trailer fields.
    """

    __slots__ = ("_chunks", "_left", "_line_read", "_reader", "_scanned", "buffer", "complete", "trailers")

    def __init__(self, reader: HeadReader) -> None:
        self._reader = reader
        self.buffer = b""
        self._scanned = 0
        self._line_read = False
        self._left = 0
        self._chunks: ChunkedDecoder | None = None
        self.complete = True
        self.trailers: list[Field] = []

    def feed(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data

    def take_rest(self) -> bytes:
        """Return what is kept: after an upgrade it is not HTTP."""
        rest, self.buffer = self.buffer, b""
        return rest

    def next_head(self) -> RequestHead | None:
        """Return the next request's head, or None if it has not arrived; raises RequestError."""
        buffer = self.buffer
        if not buffer:
            return None
        if buffer[0] == _CR:
            # RFC 9112 §2.2: empty lines before a request are ignored.
            buffer = self._skip_empty_lines()
            if not buffer:
                return None
        end = buffer.find(b"\r\n\r\n", self._scanned) + 4
        limit = self._reader.limits.head
        if end < 4 or end > limit:
            self._check_prefix(limit)
            if len(buffer) > limit:
                raise refusals.head_too_large(limit)
            self._scanned = max(0, len(buffer) - 3)
            return None
        if end == len(buffer):
            self.buffer = b""
        else:
            self.buffer = buffer[end:]
            buffer = buffer[:end]
        self._scanned = 0
        self._line_read = False
        head = self._reader.read(buffer)
        if head.length or head.chunked:
            self.complete = False
            self.trailers = []
            self._left = head.length or 0
            self._chunks = ChunkedDecoder(self._reader.limits) if head.chunked else None
        return head

    def next_piece(self) -> bytes:
        """Return what has arrived of the body; b"" if nothing has. Raises RequestError."""
        buffer = self.buffer
        if not buffer or self.complete:
            return b""
        chunks = self._chunks
        if chunks is not None:
            self.buffer = b""
            piece = b"".join(chunks.decode(buffer))
            if chunks.done:
                self.buffer = chunks.rest
                self.trailers = chunks.trailers
                self._chunks = None
                self.complete = True
            return piece
        if len(buffer) <= self._left:
            piece, self.buffer = buffer, b""
        else:
            piece, self.buffer = buffer[: self._left], buffer[self._left :]
        self._left -= len(piece)
        if not self._left:
            self.complete = True
        return piece

    @property
    def left(self) -> int | None:
        """The bytes of the body that have not arrived; None for a chunked one."""
        return None if self._chunks is not None else self._left

    def _skip_empty_lines(self) -> bytes:
        buffer = self.buffer
        match = _EMPTY_LINES.match(buffer)
        self.buffer = buffer = buffer[match.end() if match else 0 :]
        return b"" if buffer == b"\r" else buffer

    def _check_prefix(self, limit: int) -> None:
        """Raise RequestError if what is kept cannot become a valid head."""
        buffer = self.buffer
        if not self._line_read:
            line_limit = self._reader.limits.request_line
            end = buffer.find(b"\r\n", 0, line_limit + 2)
            if end < 0:
                refusals.check_line_start(buffer, line_limit)
                return
            self._reader.check_line(buffer[: end + 2])
            self._line_read = True
        if refusals.BARE_LF.search(buffer, self._scanned, limit):
            raise refusals.bare_lf()

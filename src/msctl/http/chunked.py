"""Decodes a chunked body (RFC 9112 §7.1), strictly. Does no I/O.

Chunk extensions are read and dropped. They are bounded over the whole body, because each costs time and
carries nothing: without a bound, a client could send one byte of body in each kilobyte.
"""

from __future__ import annotations

import re

from msctl.http.limits import HttpLimits
from msctl.model.exchange import Fields, RequestError

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(;[\t -~]*)?")
_FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_MAX_LINE = 4096
_MAX_EXTENSIONS = 16 * 1024
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"host", b"connection", b"trailer"})

_SIZE, _DATA, _DATA_END, _TRAILER = range(4)


class ChunkedDecoder:
    """One body. After `done`, `rest` is what follows it."""

    __slots__ = (
        "_buffer",
        "_extensions",
        "_left",
        "_limits",
        "_state",
        "_trailer_size",
        "done",
        "rest",
        "trailers",
    )

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._buffer = b""
        self._state = _SIZE
        self._left = 0
        self._extensions = 0
        self._trailer_size = 0
        self.done = False
        self.rest = b""
        self.trailers: Fields = []

    def decode(self, data: bytes) -> list[bytes]:
        """Return the pieces of the body in `data`; raises RequestError."""
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        pieces: list[bytes] = []
        position, end = 0, len(data)
        while position < end:
            state = self._state
            if state == _DATA:
                piece = data[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _DATA_END
                continue
            if state == _DATA_END:
                if end - position < 2:
                    if data[position] != 0x0D:
                        raise _malformed("A chunk is longer than its size says")
                    break
                if data[position : position + 2] != b"\r\n":
                    raise _malformed("A chunk is longer than its size says")
                position += 2
                self._state = _SIZE
                continue
            limit = _MAX_LINE if state == _SIZE else self._limits.head
            stop = data.find(b"\n", position, position + limit + 2)
            if stop < 0:
                if end - position > limit + 1:
                    raise (
                        _malformed("The size line of a chunk is too long")
                        if state == _SIZE
                        else _trailers_too_long()
                    )
                break
            if stop == position or data[stop - 1] != 0x0D:
                raise _malformed("A line of the chunked body ends with LF alone")
            line = data[position : stop - 1]
            position = stop + 1
            if state == _SIZE:
                self._read_size(line)
            elif line:
                self._read_trailer(line)
            else:
                self.done = True
                self.rest = data[position:]
                return pieces
        self._buffer = data[position:]
        return pieces

    def _read_size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise _malformed("The size of a chunk is not a hexadecimal number")
        if match[2]:
            self._extensions += len(match[2])
            if self._extensions > _MAX_EXTENSIONS:
                raise _malformed(f"The chunk extensions are longer than {_MAX_EXTENSIONS} bytes")
        self._left = int(match[1], 16)
        self._state = _DATA if self._left else _TRAILER

    def _read_trailer(self, line: bytes) -> None:
        self._trailer_size += len(line) + 2
        if self._trailer_size > self._limits.head or len(self.trailers) >= self._limits.fields:
            raise _trailers_too_long()
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise _malformed("A trailer field is malformed")
        if match[1].lower() in _FRAMING:
            raise _malformed("A trailer field is one of those that frame or route the message")
        self.trailers.append((match[1], match[2].strip(b" \t")))


def _malformed(detail: str) -> RequestError:
    return RequestError(400, f"{detail} (RFC 9112 §7.1).")


def _trailers_too_long() -> RequestError:
    return RequestError(431, "The trailer section is longer than a head may be.")

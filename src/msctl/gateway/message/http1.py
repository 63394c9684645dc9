"""An HTTP/1.1 response parser for upstream connections: bytes in, a head and body pieces out; no I/O.

Invariant: a response ends at exactly one byte. Where two readers could disagree about that byte (RFC
9112 §6.3: both framings, repeated or malformed lengths, a size line with extra bytes), the response is
an error, never a guess. Sizes are bounded by the MAX_ constants.

States: HEAD → LENGTH | CHUNK_LINE | TO_END | DONE. An interim (1xx) head returns to HEAD. A chunked
body goes CHUNK_LINE → CHUNK_DATA → CHUNK_END → CHUNK_LINE …, then TRAILER → DONE.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from msctl.gateway.message.headers import HOP_BY_HOP, Field, Fields, connection_options

MAX_HEAD = 64 * 1024
MAX_FIELDS = 1000
MAX_INTERIM = 16
MAX_CHUNK_LINE = 256
MAX_TRAILER = 16 * 1024

NOT_IN_TRAILERS = HOP_BY_HOP | frozenset(
    {b"content-length", b"host", b"content-type", b"content-encoding", b"content-range", b"authorization"}
    | {b"set-cookie", b"cookie", b"cache-control", b"expires", b"location", b"vary", b"date", b"age"}
    | {b"expect", b"range", b"te", b"x-request-id"}
)
"""Fields that mean something else, or nothing, after the body (RFC 9110 §6.5.1); they are dropped."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FIELD_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*:[ \t]*"
    rb"((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*"
)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_LF_ALONE = "a line of its response's head ends with LF alone, not with CR LF (RFC 9112 §2.2)"
_DIGITS = re.compile(rb"[0-9]{1,18}")


class MalformedResponseError(Exception):
    """The bytes are not a valid HTTP/1.1 response; the text says why."""


class IncompleteResponseError(Exception):
    """The upstream ended its response early; the text says how much is missing."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A status line and its fields, without Content-Length. `dated` is whether Date is among them.

    `length` is the body's length, None if chunks or the end of the connection delimit it. `bodiless`
    is true if no body follows, whatever the fields say.
    """

    status: int
    reason: bytes
    fields: tuple[Field, ...]
    dated: bool
    minor: int
    length: int | None
    chunked: bool
    bodiless: bool
    keep_alive: bool


class _State(Enum):
    HEAD = auto()
    LENGTH = auto()
    CHUNK_LINE = auto()
    CHUNK_DATA = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    TO_END = auto()
    DONE = auto()


class ResponseReader:
    """Parses one response, and the interim responses before it, from the bytes fed to it.

    `head` is set when the final head is complete. `interim` holds 1xx heads and `body` the pieces that
    the caller has not taken yet. `done` is true when the message has ended, `excess` if bytes followed
    it. `feed` raises MalformedResponseError, `feed_eof` IncompleteResponseError.
    """

    __slots__ = (
        "_buffer",
        "_interims",
        "_left",
        "_method",
        "_state",
        "body",
        "excess",
        "head",
        "interim",
        "trailers",
        "upgraded",
    )

    def __init__(self, method: str) -> None:
        self._method = method
        self._buffer = b""
        self._state = _State.HEAD
        self._left = 0
        self._interims = 0
        self.head: ResponseHead | None = None
        self.interim: list[ResponseHead] = []
        self.body: list[bytes] = []
        self.trailers: Fields = []
        self.excess = False
        self.upgraded = False

    @property
    def done(self) -> bool:
        return self._state is _State.DONE

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request."""
        head = self.head
        if self.upgraded or self.excess:
            return False
        return self._state is _State.DONE and head is not None and head.keep_alive

    def feed(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while data:
            state = self._state
            if state is _State.HEAD:
                data = self._feed_head(data)
            elif state is _State.LENGTH:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                self.body.append(piece)
                if not self._left:
                    self._state = _State.DONE
            elif state is _State.TO_END:
                self.body.append(data)
                return
            elif state is _State.DONE:
                if self.upgraded:
                    self.body.append(data)
                else:
                    self.excess = True
                return
            else:
                rest = self._feed_chunks(data)
                if rest is None:
                    return
                data = rest

    def feed_eof(self) -> None:
        if self._state is _State.TO_END:
            self._state = _State.DONE
        elif self._state is _State.HEAD:
            raise IncompleteResponseError(
                "it closed the connection in the middle of the response's head"
                if self._buffer
                else "it closed the connection without a response"
            )
        elif self._state is _State.LENGTH:
            raise IncompleteResponseError(
                f"it closed the connection {self._left} bytes before the end of the body"
            )
        elif self._state is not _State.DONE:
            raise IncompleteResponseError("it closed the connection before the last chunk")

    def _feed_head(self, data: bytes) -> bytes:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > MAX_HEAD:
                raise MalformedResponseError(f"the response's head is longer than {MAX_HEAD} bytes")
            if data[:5] != b"HTTP/"[: len(data)]:
                raise MalformedResponseError("its response is not HTTP")
            if _BARE_LF.search(data):  # its end may never come
                raise MalformedResponseError(_LF_ALONE)
            self._buffer = data
            return b""
        if end > MAX_HEAD:
            raise MalformedResponseError(f"the response's head is longer than {MAX_HEAD} bytes")
        head = parse_head(data[:end], self._method)
        rest = data[end + 4 :]
        if head.status < 200 and head.status != 101:
            self._interims += 1
            if self._interims > MAX_INTERIM:
                raise MalformedResponseError(f"it sent more than {MAX_INTERIM} interim responses")
            self.interim.append(head)
            return rest
        self.head = head
        if head.status == 101:
            self.upgraded = True
            self._state = _State.DONE
        elif head.bodiless or head.length == 0:
            self._state = _State.DONE
        elif head.chunked:
            self._state = _State.CHUNK_LINE
        elif head.length is not None:
            self._left = head.length
            self._state = _State.LENGTH
        else:
            self._state = _State.TO_END
        return rest

    def _feed_chunks(self, data: bytes) -> bytes | None:
        """Take one step through a chunked body (RFC 9112 §7.1); None if more bytes are needed."""
        state = self._state
        if state is _State.CHUNK_DATA:
            piece, data = data[: self._left], data[self._left :]
            self._left -= len(piece)
            self.body.append(piece)
            if not self._left:
                self._state = _State.CHUNK_END
            return data
        if state is _State.CHUNK_END:
            if len(data) < 2:
                if data != b"\r":
                    raise MalformedResponseError("a chunk is longer than its size line says")
                self._buffer = data
                return None
            if data[:2] != b"\r\n":
                raise MalformedResponseError("a chunk is longer than its size line says")
            self._state = _State.CHUNK_LINE
            return data[2:]
        end = data.find(b"\r\n")
        limit = MAX_CHUNK_LINE if state is _State.CHUNK_LINE else MAX_TRAILER
        if end < 0 or end > limit:
            if len(data) > limit + 1:
                raise MalformedResponseError("a chunk's size line or a trailer field is too long")
            self._buffer = data
            return None
        line, data = data[:end], data[end + 2 :]
        if state is _State.CHUNK_LINE:
            match = _CHUNK_LINE.fullmatch(line)
            if match is None:
                raise MalformedResponseError("a chunk's size is not a hexadecimal number")
            size = int(match[1], 16)
            if size:
                self._left, self._state = size, _State.CHUNK_DATA
            else:
                self._left, self._state = MAX_TRAILER, _State.TRAILER
        elif not line:
            self._state = _State.DONE
        else:
            self._left -= len(line)
            match = _FIELD_LINE.fullmatch(line)
            if self._left < 0 or match is None:
                raise MalformedResponseError("the trailer section is malformed or too long")
            if match[1].lower() not in NOT_IN_TRAILERS:
                self.trailers.append((match[1], match[2]))
        return data


CACHED_HEADS = 256
MAX_CACHED_HEAD = 1024
_heads: dict[tuple[bytes, bool], ResponseHead] = {}
"""Heads parsed before, by their bytes and whether they answer HEAD: services answer alike within a second."""


def parse_head(head: bytes, method: str) -> ResponseHead:
    """Parse a response head without its final empty line; `method` is the request's method."""
    key = (head, method == "HEAD")
    found = _heads.get(key)
    if found is None:
        found = _parse_head(head, method)
        if len(head) <= MAX_CACHED_HEAD:
            if len(_heads) >= CACHED_HEADS:
                _heads.clear()
            _heads[key] = found
    return found


def _parse_head(head: bytes, method: str) -> ResponseHead:
    lines = head.split(b"\r\n")
    status_line = _STATUS_LINE.fullmatch(lines[0])
    if status_line is None:
        raise MalformedResponseError(_LF_ALONE if b"\n" in lines[0] else "its status line is malformed")
    if len(lines) - 1 > MAX_FIELDS:
        raise MalformedResponseError(f"it sent more than {MAX_FIELDS} header fields")
    fields: Fields = []
    lengths: list[bytes] = []
    encodings: list[bytes] = []
    has_connection = dated = False
    for line in lines[1:]:
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise MalformedResponseError(
                _LF_ALONE if b"\n" in line else "one of its header fields is malformed"
            )
        name, value = match.groups()
        lower = name.lower()
        if lower == b"content-length":
            lengths.append(value)
            continue
        fields.append((name, value))
        if lower == b"date":
            dated = True
        elif lower == b"transfer-encoding":
            encodings.append(value)
        elif lower == b"connection":
            has_connection = True
    minor, status = int(status_line[1]), int(status_line[2])
    bodiless = method == "HEAD" or status < 200 or status in (204, 304)
    length, chunked = _framing(lengths, encodings, minor, bodiless=bodiless)
    options = connection_options(fields) if has_connection else frozenset()
    ends_by_close = not bodiless and length is None and not chunked
    keep_alive = not ends_by_close and b"close" not in options and (minor == 1 or b"keep-alive" in options)
    return ResponseHead(
        status, status_line[3] or b"", tuple(fields), dated, minor, length, chunked, bodiless, keep_alive
    )


def _framing(
    lengths: list[bytes], encodings: list[bytes], minor: int, *, bodiless: bool
) -> tuple[int | None, bool]:
    """Return the length of the body and whether it is chunked.

    A response without a body ends with its head whatever its fields say (RFC 9112 §6.3): lengths that differ
    are left out. BlackSheep under uvicorn answers HEAD so.
    """
    if encodings:
        if lengths:
            raise MalformedResponseError("it sent both Content-Length and Transfer-Encoding")
        if minor == 0 or len(encodings) > 1 or encodings[0].lower() != b"chunked":
            raise MalformedResponseError("it sent a transfer coding other than chunked")
        return None, True
    if not lengths:
        return None, False
    numbers = {part.strip(b" \t") for value in lengths for part in value.split(b",")}
    if bodiless and len(numbers) > 1 and all(map(_DIGITS.fullmatch, numbers)):
        return None, False
    if len(numbers) != 1 or not _DIGITS.fullmatch(number := numbers.pop()):
        raise MalformedResponseError("its Content-Length is not one number")
    return int(number), False


def serialize_fields(fields: Iterable[Field]) -> bytes:
    """Serialize fields, each with its line end. They were checked when they were parsed."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"

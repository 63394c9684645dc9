"""aiohttp's responses on an exchange.

`ExchangeWriter` is the stream writer that aiohttp's responses write to; framing and the connection are
the exchange's. A complete `web.Response` takes a short way past it (`respond_complete`) where that gives the
same response: no streaming, compression, cookies or prepare signals. Its fields are checked and encoded once
for equal responses and kept in `_complete`, keyed by all that they are made of.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Container
from operator import attrgetter
from typing import NamedTuple, Protocol

from aiohttp import ClientConnectionResetError, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import SERVER_SOFTWARE
from multidict import CIMultiDict

from msctl.hosting.compression import compressed
from msctl.hosting.response_fields import BODILESS
from msctl.http.date import http_date
from msctl.model.exchange import Exchange, Field, Fields, RawReceiver, RawStream

FIELDS_CACHE_SIZE = 1024
"""The number of cached responses' fields at which the cache is cleared."""
MAX_CACHED_FIELDS = 1024
"""The size in characters up to which fields are cached."""

_BODILESS = frozenset({204, 205, 304})
_OF_THE_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "content-length"})
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_INTERIM = re.compile(rb"HTTP/1\.[01] (1\d\d) ?([^\r\n]*)\r\n(?:[^\r\n]*\r\n)*?\r\n")
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


_cookies = attrgetter("_cookies" if hasattr(web.StreamResponse, "_cookies") else "cookies")
"""What a response has set: `cookies` would make a SimpleCookie for each response that has none."""


class _CompleteHead(NamedTuple):
    """The head of a complete response, checked and encoded, as of one second."""

    date: bytes
    reason: bytes
    fields: tuple[Field, ...]
    typed: bool
    size: int


_complete: dict[tuple[object, ...], _CompleteHead] = {}
"""By all that a head is made of: status, reason and header fields."""


class Connection(RawReceiver, Protocol):
    """The connection of the request that is answered; `raw` is its stream after an upgrade."""

    raw: RawStream | None

    def upgraded(self, raw: RawStream) -> None: ...

    @property
    def transport(self) -> asyncio.Transport | None: ...


class ShortBodyError(ConnectionError):
    """A response ended before its Content-Length; its connection is aborted."""


class ExchangeWriter(AbstractStreamWriter):
    """Writes a response of aiohttp's to an exchange."""

    chunked = False

    def __init__(self, exchange: Exchange, connection: Connection) -> None:
        self._exchange = exchange
        self._connection = connection
        self._compressor: zlib._Compress | None = None
        self.length: int | None = None

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        return self._connection.transport

    def enable_chunking(self) -> None:
        self.chunked = True

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        window = _WINDOWS[encoding]
        self._compressor = zlib.compressobj(
            wbits=window, strategy=zlib.Z_DEFAULT_STRATEGY if strategy is None else strategy
        )

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        status, _, reason = status_line.partition(" ")[2].partition(" ")
        exchange = self._exchange
        fields = encoded_fields(reason, headers)
        if int(status) == 101:
            self._connection.upgraded(exchange.upgrade(fields, self._connection))
            return
        if "close" in headers.get("Connection", "").lower():
            exchange.keep_alive = False
        if int(status) in BODILESS:
            self.length = None  # aiohttp leaves the body out after it has counted it
        length = headers.get("Content-Length")
        exchange.start(
            int(status),
            reason.encode("latin-1", "replace"),
            fields,
            length=None if length is None else int(length),
        )

    def send_headers(self) -> None:
        if self._connection.raw is None:
            self._exchange.flush()

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        exchange = self._exchange
        data = bytes(chunk)
        if exchange.disconnected:
            raise ClientConnectionResetError("Cannot write to closing transport")
        if not exchange.status:
            # aiohttp's handler of expectations writes a 100 response itself.
            interim = _INTERIM.fullmatch(data)
            if interim is None:
                raise RuntimeError("a body before the head of the response")
            exchange.interim(int(interim[1]), interim[2], [])
            return
        if self._compressor is not None:
            data = await compressed(self._compressor.compress, data)
        data = self._within_length(data)
        if not data:
            return
        self.output_size += len(data)
        exchange.write(data)
        if exchange.writing_paused:
            await exchange.drain()

    async def write_eof(self, chunk: bytes = b"") -> None:
        exchange = self._exchange
        if self._connection.raw is not None or exchange.finished:
            return
        data = bytes(chunk)
        if self._compressor is not None:
            data = await compressed(self._compressor.compress, data) + self._compressor.flush()
        data = self._within_length(data)
        self.output_size += len(data)
        if self.length and exchange.head.method != "HEAD":
            exchange.abort()
            raise ShortBodyError(f"the response ended {self.length} bytes before its Content-Length")
        exchange.finish(data)
        if exchange.writing_paused:
            await exchange.drain()

    async def drain(self) -> None:
        if self._connection.raw is not None:
            await self._connection.raw.drain()
        elif self._exchange.writing_paused:
            await self._exchange.drain()

    def _within_length(self, data: bytes) -> bytes:
        """Return what fits into the Content-Length: aiohttp drops the rest."""
        if self.length is not None:
            data = data[: self.length]
            self.length -= len(data)
        return data


def respond_complete(response: web.Response, request: web.Request, exchange: Exchange) -> bool:
    """Send a complete response; return False for one that has to go the long way."""
    body = response.body
    if body is None:
        body = b""
    status = response.status
    if (
        type(body) is not bytes
        or response.prepared
        or response.compression
        or response.chunked
        or status in _BODILESS
        or status == 101
        or exchange.head.method == "HEAD"
        or _cookies(response)
    ):
        return False
    for app in request.match_info.apps:
        if app.on_response_prepare:
            return False
    headers, reason = response.headers, response.reason
    date = http_date()
    key = (status, reason, *headers.items())
    known = _complete.get(key)
    if known is None or known.date is not date:
        known = _complete_head(reason, headers, date)
        if known is None:
            return False
        if known.size <= MAX_CACHED_FIELDS:
            if len(_complete) >= FIELDS_CACHE_SIZE:
                _complete.clear()
            _complete[key] = known
    if body and not known.typed:
        return False
    if response.keep_alive is False:
        exchange.keep_alive = False
    exchange.respond(status, known.reason, known.fields, body)
    return True


def _complete_head(reason: str, headers: CIMultiDict[str], date: bytes) -> _CompleteHead | None:
    """Return the head of a complete response; None for one with fields that frame it."""
    if not _OF_THE_CONNECTION.isdisjoint([name.lower() for name in headers]):
        return None
    fields = encoded_fields(reason, headers)
    if "Date" not in headers:
        fields.append((b"Date", date))
    if "Server" not in headers:
        fields.append((b"Server", SERVER_SOFTWARE.encode()))
    size = sum(len(name) + len(value) for name, value in fields)
    return _CompleteHead(
        date, reason.encode("latin-1", "replace"), tuple(fields), "Content-Type" in headers, size
    )


def encoded_fields(reason: str, headers: CIMultiDict[str]) -> Fields:
    """Return the fields of a response, without those of the connection and those that Connection names.

    Raises ValueError for control characters, which could be read as other fields (RFC 9110 §5.5).
    """
    fields: Fields = []
    if _UNSAFE.search(reason):
        raise ValueError("the reason phrase contains a control character")
    left_out: Container[str] = _OF_THE_CONNECTION
    if "Connection" in headers:
        named = ",".join(headers.getall("Connection")).lower().split(",")
        left_out = _OF_THE_CONNECTION | {name.strip() for name in named}
    for name, value in headers.items():
        if _UNSAFE.search(name) or _UNSAFE.search(value):
            raise ValueError(f"the header field {name!r} of the response contains a control character")
        if name.lower() not in left_out:
            fields.append((name.encode("utf-8"), value.encode("utf-8", "surrogateescape")))
    return fields

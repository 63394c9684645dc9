"""Decompression of request bodies for hosted applications.

The stack's listeners do not decompress, because the gateway forwards bodies unchanged. aiohttp's own
server does, without changing the Content-Encoding field; hosted applications expect the same.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError
from aiohttp.http_parser import DeflateBuffer
from aiohttp.streams import StreamReader

CODINGS = frozenset({"gzip", "deflate", "br", "zstd"})
"""The content codings of aiohttp's parser; the last two only if their packages are installed."""
_LIMIT = 64 * 1024


class DecompressedBody(StreamReader):
    """The decompressed body of `source`; it is decompressed piece by piece, as it is read.

    Other tasks run between two pieces of at most 256 KiB, about half a millisecond of work.
    """

    def __init__(self, request: web.Request, source: StreamReader, coding: str) -> None:
        """Raises HTTPUnsupportedMediaType for an unsupported coding (RFC 9110 §15.5.16)."""
        super().__init__(request.protocol, _LIMIT, loop=asyncio.get_running_loop())
        # It is fed only while it is read, so it never needs flow control.
        self._high_water = sys.maxsize
        self._source = source
        self._more = False
        try:
            self._decompressor = DeflateBuffer(self, coding)
        except ContentEncodingError as error:
            raise web.HTTPUnsupportedMediaType(text=f"{error.message}\n") from error

    async def _wait(self, func_name: str) -> None:  # noqa: ARG002 - the signature of the base class
        if self._more:
            # A piece is bounded, the body is not: a small body can take seconds to decompress.
            await asyncio.sleep(0)
            piece = b""
        else:
            piece = await self._source.readany()
        try:
            if piece or self._more:
                self._more = self._decompressor.feed_data(piece, len(piece))
            else:
                self._decompressor.feed_eof()
        except ContentEncodingError as error:
            raise web.RequestPayloadError(error.message) from error


def decompress_body(request: web.Request) -> None:
    """Make `request` read its body decompressed, if it has a known coding."""
    coding = request.headers.get("Content-Encoding", "").lower()
    if coding in CODINGS and request.body_exists:
        # Not `content`, which is cached.
        request._payload = DecompressedBody(request, request._payload, coding)

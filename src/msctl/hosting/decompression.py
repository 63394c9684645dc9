"""Bodies that come compressed, as an application expects to read them: decompressed.

The stack's listeners leave bodies as they are, because the gateway passes them on as they are. aiohttp's
own server decompresses them for an application, whatever the Content-Encoding field says then.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError
from aiohttp.http_parser import DeflateBuffer
from aiohttp.streams import StreamReader

CODINGS = frozenset({"gzip", "deflate", "br", "zstd"})
"""Content codings that aiohttp's parser knows; the last two only where their packages are installed."""
_LIMIT = 64 * 1024


class Inflated(StreamReader):
    """The body in `source`, decompressed while it is read, a piece at a time: nothing is read ahead."""

    def __init__(self, request: web.Request, source: StreamReader, coding: str) -> None:
        """Raises HTTPUnsupportedMediaType for a coding that cannot be undone here (RFC 9110 §15.5.16)."""
        super().__init__(request.protocol, _LIMIT, loop=asyncio.get_running_loop())
        # It is fed only while it is read, so there is never anything to hold back.
        self._high_water = sys.maxsize
        self._source = source
        self._more = False
        try:
            self._inflater = DeflateBuffer(self, coding)
        except ContentEncodingError as error:
            raise web.HTTPUnsupportedMediaType(text=f"{error.message}\n") from error

    async def _wait(self, func_name: str) -> None:  # noqa: ARG002 - whatever it is that reads
        piece = b"" if self._more else await self._source.readany()
        try:
            if piece or self._more:
                self._more = self._inflater.feed_data(piece, len(piece))
            else:
                self._inflater.feed_eof()
        except ContentEncodingError as error:
            raise web.RequestPayloadError(error.message) from error


def inflate(request: web.Request) -> None:
    """Let `request` be read as its application expects."""
    coding = request.headers.get("Content-Encoding", "").lower()
    if coding in CODINGS and request.body_exists:
        # Not through `content`, which remembers what it was first.
        request._payload = Inflated(request, request._payload, coding)

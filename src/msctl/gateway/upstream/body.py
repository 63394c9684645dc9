"""Body streams for hosted applications other than the client's connection itself."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.streams import StreamReader

from msctl.gateway.message.problems import ProblemError
from msctl.gateway.upstream.base import Body, too_large


class CountedContent:
    """A chunked body that raises ProblemError (413) once it exceeds its limit."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._content = body.content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    def _check(self) -> None:
        if self._content.total_bytes > self._body.limit:
            raise ProblemError(too_large(self._body.limit))

    async def read(self, n: int = -1) -> bytes:
        if n < 0:
            pieces: list[bytes] = []
            while piece := await self.readany():
                pieces.append(piece)
            return b"".join(pieces)
        data = await self._content.read(n)
        self._check()
        return data

    async def readany(self) -> bytes:
        data = await self._content.readany()
        self._check()
        return data

    async def readline(self, **options: Any) -> bytes:
        data = await self._content.readline(**options)
        self._check()
        return data

    async def readuntil(self, *args: Any, **options: Any) -> bytes:
        data = await self._content.readuntil(*args, **options)
        self._check()
        return data

    async def readexactly(self, n: int) -> bytes:
        data = await self._content.readexactly(n)
        self._check()
        return data

    async def readchunk(self) -> tuple[bytes, bool]:
        data = await self._content.readchunk()
        self._check()
        return data

    async def iter_any(self) -> Any:
        while data := await self.readany():
            yield data

    async def iter_chunked(self, n: int) -> Any:
        while data := await self.read(n):
            yield data

    async def iter_chunks(self) -> Any:
        while (piece := await self.readchunk()) != (b"", False):
            yield piece

    async def __aiter__(self) -> Any:
        while line := await self.readline():
            yield line


def refilled(given: web.Request, data: bytes) -> StreamReader:
    """Return a stream of a body that was read before."""
    content = StreamReader(given.protocol, 2**16, loop=asyncio.get_running_loop())
    content.set_read_chunk_size(max(1, len(data)))
    content.feed_data(data)
    content.feed_eof()
    return content

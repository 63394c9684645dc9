"""aiohttp's request object for an exchange.

`web.Request` wants the parts of aiohttp's own server: a message, a payload, a protocol and a task. They
are made here of an exchange. The message is derived from the head, which requests share, and kept there.
The payload is aiohttp's own StreamReader: fed at once with a body that has arrived, else by a task that
reads the exchange's body when the application begins to read, and no faster than it reads. For the protocol
stands `Connection` (aiohttp_connection.py).
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any, NamedTuple, cast

from aiohttp import StreamReader, web
from aiohttp.http import HttpVersion, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy, istr
from yarl import URL

from msctl.hosting.aiohttp_connection import Connection
from msctl.hosting.aiohttp_response import ExchangeWriter
from msctl.hosting.decompression import CODINGS, Decompressor
from msctl.hosting.forwarding import Forwarded, Trusts
from msctl.model.exchange import Exchange, RequestError, RequestHead

READ_LIMIT = 64 * 1024
"""The bytes that wait for an application before its client is made to wait."""
_MEMO = "aiohttp"


class BodyError(RequestError, web.RequestPayloadError):
    """The client's body is at fault: as applications expect it of aiohttp."""


class HostedRequest(web.Request):
    """The request as the application sees it."""

    ATTRS = web.Request.ATTRS | frozenset({"posted"})
    posted: bool = False
    """Whether the application has parsed the body as a form."""

    async def post(self) -> Any:
        self.posted = True
        return await super().post()

    async def close_files(self) -> None:
        """Close the files of a form; their contents are those of temporary files."""
        if self.posted:
            for value in (await super().post()).values():
                if isinstance(value, web.FileField):
                    value.file.close()


class _Headers:
    """What follows from the fields of a head alone."""

    __slots__ = ("coding", "forwarded", "headers", "raw", "version")

    def __init__(self, head: RequestHead) -> None:
        self.headers = CIMultiDict([(_text(name), _text(value)) for name, value in head.fields])
        self.raw = tuple(head.fields)
        self.version = HttpVersion(*head.version)
        self.coding = self.headers.get("Content-Encoding", "").lower()
        self.forwarded = Forwarded(head.fields)


def make_request(
    exchange: Exchange,
    loop: asyncio.AbstractEventLoop,
    task: asyncio.Task[Any],
    limits: BodyLimits,
    trusts: Trusts,
) -> tuple[HostedRequest, Connection]:
    """Return the request of an exchange, and what stands for its connection.

    `trusts` tells which peers' X-Forwarded-For and X-Forwarded-Proto are believed.
    Raises RequestError (415) for a content coding that cannot be undone (RFC 9110 §15.5.16).
    """
    head = exchange.head
    shared: _Headers | None = head.fields_memo.get(_MEMO)
    if shared is None:
        shared = head.fields_memo[_MEMO] = _Headers(head)
    url: URL | None = head.memo.get(_MEMO)
    if url is None:
        url = head.memo[_MEMO] = _url(head.target)
    headers, raw = shared.headers, shared.raw
    extra = exchange.extra
    if extra:
        headers = headers.copy()
        for name, value in extra:
            headers.add(_name(name), _text(value))
        raw = (*raw, *extra)
    message = RawRequestMessage(
        head.method,
        head.target,
        shared.version,
        CIMultiDictProxy(headers),
        raw,
        not exchange.keep_alive,
        shared.coding or None,
        head.upgrade is not None,
        head.chunked,
        url,
    )
    connection = Connection(exchange, loop)
    payload = EMPTY_PAYLOAD
    body = exchange.body
    if head.length or head.chunked:
        if shared.coding in CODINGS:
            payload = PumpedReader(connection, exchange, Decompressor(shared.coding))
        elif body.complete:
            payload = StreamReader(connection, READ_LIMIT, loop=loop)
            payload.feed_data(body.take())
            payload.feed_eof()
        else:
            payload = PumpedReader(connection, exchange, None)
    connection.payload = payload
    scheme, remote = exchange.scheme, None
    forwarded = shared.forwarded
    if forwarded.believed(exchange, trusts):
        scheme = forwarded.scheme or scheme
        if not exchange.trusted:
            remote = forwarded.client(exchange, trusts)[0]
    request = HostedRequest(
        message,
        payload,
        cast(web.RequestHandler, connection),
        ExchangeWriter(exchange, connection),
        task,
        loop,
        client_max_size=limits.size,
        client_max_fields=limits.fields,
        scheme=scheme,
        remote=remote,
    )
    return request, connection


class BodyLimits(NamedTuple):
    """An application's limits: bytes of a body, and fields of a form."""

    size: int = 1024**2
    fields: int = 1000


def limits_of(server: web.Server) -> BodyLimits:
    """Return the limits of a server's application.

    aiohttp tells them only to the requests that it makes itself, so one is made.
    """
    message = RawRequestMessage(
        "GET",
        "/",
        HttpVersion(1, 1),
        CIMultiDictProxy(CIMultiDict()),
        (),
        False,
        None,
        False,
        False,
        URL("/"),
    )
    nobody = cast(Any, _Nobody())
    request = server.request_factory(message, EMPTY_PAYLOAD, nobody, nobody, nobody)
    return BodyLimits(request.client_max_size, request.client_max_fields)


class _Nobody:
    """The connection of a request that nobody sent."""

    ssl_context = peername = sockname = None


class PumpedReader(StreamReader):
    """A body that is read from the exchange when, and as fast as, the application reads it."""

    def __init__(self, connection: Connection, exchange: Exchange, coding: Decompressor | None) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(connection, READ_LIMIT, loop=loop)
        self._connection = connection
        self._body = exchange.body
        self._coding = coding
        self._pumping: asyncio.Task[None] | None = None
        connection.stop_reading = self.end

    def begin(self) -> None:
        """Start reading from the client."""
        if self._pumping is None:
            self._pumping = asyncio.get_running_loop().create_task(self._pump())

    def end(self) -> None:
        """Read no more."""
        if self._pumping is not None:
            self._pumping.cancel()

    async def read(self, n: int = -1) -> bytes:
        self.begin()
        return await super().read(n)

    async def readany(self) -> bytes:
        self.begin()
        return await super().readany()

    async def readchunk(self) -> tuple[bytes, bool]:
        self.begin()
        return await super().readchunk()

    async def readline(self, **options: Any) -> bytes:
        self.begin()
        return await super().readline(**options)

    async def readuntil(self, *args: Any, **options: Any) -> bytes:
        self.begin()
        return await super().readuntil(*args, **options)

    async def readexactly(self, n: int) -> bytes:
        self.begin()
        return await super().readexactly(n)

    async def wait_eof(self) -> None:
        self.begin()
        await super().wait_eof()

    async def _pump(self) -> None:
        coding = self._coding
        try:
            while data := await self._body.read():
                if coding is None:
                    self.feed_data(data)
                    await self._connection.wait_for_reader()
                    continue
                for piece in coding.feed(data):
                    self.feed_data(piece)
                    # A piece is bounded, the body is not: a small body can take seconds to decompress.
                    await asyncio.sleep(0)
                    await self._connection.wait_for_reader()
            if coding is not None:
                coding.finish()
        except RequestError as error:
            self.set_exception(BodyError(error.status, error.detail))
        except Exception as error:  # noqa: BLE001 - raised by the application's read
            self.set_exception(error)
        else:
            self.feed_eof()


@lru_cache(256)
def _name(value: bytes) -> istr:
    """Return a field's name as multidict stores it."""
    return istr(_text(value))


def _text(value: bytes) -> str:
    """Decode a field's bytes as aiohttp does, so that encoding them again loses nothing."""
    return value.decode("utf-8", "surrogateescape")


def _url(target: str) -> URL:
    """Return a target as aiohttp's parser does."""
    if not target.startswith("/"):
        return URL(target, encoded=True)
    path, _, rest = target.partition("?")
    query, _, fragment = rest.partition("#")
    return URL.build(path=path, query_string=query, fragment=fragment, encoded=True)

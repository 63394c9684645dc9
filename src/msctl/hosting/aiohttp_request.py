"""aiohttp's request object for an exchange.

`web.Request` wants the parts of aiohttp's own server: a message, a payload, a protocol and a task. They
are made here of an exchange. The message is derived from the head, which requests share, and kept there.
The payload is aiohttp's own StreamReader: fed at once with a body that has arrived, else by a task that
reads the exchange's body when the application begins to read, and no faster than it reads. `Connection`
stands for the protocol: it has the few names that requests, readers and WebSockets ask it for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, cast

from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpVersion, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy, istr
from yarl import URL

from msctl.hosting.aiohttp_response import ExchangeWriter
from msctl.hosting.decompression import CODINGS, Decompressor
from msctl.http.websocket_frames import ClosingRelay
from msctl.model.exchange import Exchange, RawStream, RequestError, RequestHead

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

    __slots__ = ("coding", "headers", "raw", "version")

    def __init__(self, head: RequestHead) -> None:
        self.headers = CIMultiDict([(_text(name), _text(value)) for name, value in head.fields])
        self.raw = tuple(head.fields)
        self.version = HttpVersion(*head.version)
        self.coding = self.headers.get("Content-Encoding", "").lower()


def make_request(
    exchange: Exchange, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], limits: BodyLimits
) -> tuple[HostedRequest, Connection]:
    """Return the request of an exchange, and what stands for its connection.

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
    request = HostedRequest(
        message,
        payload,
        cast(web.RequestHandler, connection),
        ExchangeWriter(exchange, connection),
        task,
        loop,
        client_max_size=limits.size,
        client_max_fields=limits.fields,
        scheme=exchange.scheme,
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


class _NoParser:
    """aiohttp pauses its parser with the transport; here there is none."""

    def pause_reading(self) -> None:
        """Do nothing."""


_NO_PARSER = _NoParser()


class Connection(BaseProtocol):
    """What aiohttp's requests, body readers and WebSockets expect of their connection."""

    __slots__ = (
        "_callback",
        "_down",
        "_eof",
        "_exchange",
        "_facade",
        "_feed",
        "_resumed",
        "_up",
        "_waiting",
        "payload",
        "raw",
    )

    ssl_context = None
    """The scheme is told to the request itself."""
    max_field_size = 8190
    max_headers = 128
    """Of the parts of a multipart form, as of aiohttp's own server."""
    _timeout_ceil_threshold = 5.0
    """The seconds from which WebSocket heartbeats are rounded up, as of aiohttp's own server."""

    def __init__(self, exchange: Exchange, loop: asyncio.AbstractEventLoop) -> None:
        self._facade: Transport | None = None
        super().__init__(loop, cast(Any, _NO_PARSER))
        self._exchange = exchange
        self.raw: RawStream | None = None
        self.payload: StreamReader = EMPTY_PAYLOAD
        self._resumed: asyncio.Event | None = None
        self._feed: Any = None
        self._callback: Callable[[], object] | None = None
        self._waiting: list[bytes] = []
        self._eof = False

    @property
    def peername(self) -> tuple[str, int] | None:
        client = self._exchange.client
        return client if client[0] else None

    @property
    def sockname(self) -> tuple[str, int] | None:
        server = self._exchange.server
        return server if server[0] else None

    @property
    def transport(self) -> asyncio.Transport | None:
        if self._eof or self._exchange.disconnected:
            return None
        if self._facade is None:
            self._facade = Transport(self, self._exchange)
        return self._facade

    @transport.setter
    def transport(self, value: asyncio.Transport | None) -> None:
        """Ignore what the base class sets."""

    async def wait_for_reader(self) -> None:
        """Wait while the application has not read what it was given."""
        if self._resumed is not None:
            await self._resumed.wait()

    def pause_body(self) -> None:
        if self.raw is not None:
            self.raw.pause_reading()
        elif self._resumed is None:
            self._resumed = asyncio.Event()

    def resume_body(self) -> None:
        if self.raw is not None:
            self.raw.resume_reading()
        elif self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    # --- an upgraded connection -----------------------------------------------------------------------

    def upgraded(self, raw: RawStream) -> None:
        self.raw = raw
        self._up = ClosingRelay(self._receive, masked=True)
        self._down = ClosingRelay(raw.write, masked=False)

    def keep_alive(self, value: bool) -> None:
        """Do nothing: an upgraded connection closes."""

    def set_parser(self, parser: Any, data_received_cb: Callable[[], object] | None = None) -> None:
        """Give what the client sends to `parser`."""
        self._feed, self._callback = parser, data_received_cb
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.data_received(data)
        if self._eof:
            parser.feed_eof()

    def data_received(self, data: bytes) -> None:
        if not data:
            return  # the base class asks for what it kept, which is nothing
        if self._feed is None:
            self._waiting.append(data)
            return
        if self._callback is not None:
            self._callback()
        self._up.feed(data)

    def _receive(self, data: bytes) -> None:
        # After a malformed frame the handler still reads what came before it, and sends the close frame.
        self._feed.feed_data(data)

    def eof_received(self) -> None:
        if self._eof:
            return
        self._eof = True
        if self.writing_paused:
            self.resume_writing()
        if self._feed is not None:
            self._feed.feed_eof()

    def send(self, data: bytes) -> None:
        self._down.feed(data)

    def send_close(self, code: int) -> None:
        """Send both sides of a WebSocket a close frame, each at its next frame boundary."""
        if self.raw is not None:
            self._up.close(code)
            self._down.close(code)

    def end(self) -> None:
        """Release what the request held: the application has finished."""
        payload = self.payload
        if payload is not EMPTY_PAYLOAD:
            if type(payload) is PumpedReader:
                payload.end()
            payload.set_exception(web.PayloadAccessError())
        if self.raw is not None:
            self.raw.close()


class Transport(asyncio.Transport):
    """The transport of a `Connection`, for applications and WebSockets."""

    def __init__(self, connection: Connection, exchange: Exchange) -> None:
        extra = {"peername": connection.peername, "sockname": connection.sockname}
        super().__init__(extra)
        self._connection = connection
        self._exchange = exchange
        self._draining: asyncio.Task[None] | None = None

    @property
    def _sendfile_compatible(self) -> object:
        """Refuse sendfile: FileResponse then writes the file piece by piece."""
        raise NotImplementedError

    def is_closing(self) -> bool:
        return self._exchange.disconnected

    def write(self, data: Any) -> None:
        connection = self._connection
        raw = connection.raw
        if raw is None:
            raise RuntimeError("the connection was not upgraded")
        connection.send(bytes(data))
        if raw.writing_paused and not connection.writing_paused:
            connection.pause_writing()
            self._draining = asyncio.get_running_loop().create_task(self._drain(raw))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    async def _drain(self, raw: RawStream) -> None:
        try:
            await raw.drain()
        except ConnectionError:
            pass  # the reader is told
        if self._connection.writing_paused:
            self._connection.resume_writing()

    def pause_reading(self) -> None:
        self._connection.pause_body()

    def resume_reading(self) -> None:
        self._connection.resume_body()

    def close(self) -> None:
        if self._connection.raw is not None:
            self._connection.raw.close()
        else:
            self.abort()

    def abort(self) -> None:
        if self._connection.raw is not None:
            self._connection.raw.abort()
        else:
            self._exchange.abort()


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

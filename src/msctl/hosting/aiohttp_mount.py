"""Exchanges of somebody else's aiohttp server: a handler of ours as an aiohttp application.

A handler writes without waiting, aiohttp's responses are awaited. So what the handler writes is kept in
order, and the request's task sends it; above HIGH_WATER bytes the exchange asks the handler to wait. aiohttp
adds fields to a response (Content-Type, Server); those that the handler did not write are taken out again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from msctl.aio import reset_connection
from msctl.model.exchange import (
    ClientGoneError,
    Exchange,
    Field,
    Fields,
    Handler,
    RawReceiver,
    RawStream,
    RequestError,
    RequestHead,
)

HIGH_WATER = 256 * 1024
"""The bytes that wait to be sent before the handler is asked to wait."""
WATCH_S = 0.25
"""How often a connection is looked at while a handler wants to know whether it is lost."""

_INVENTED = ("Content-Type", "Server")


def mounted(handle: Handler) -> web.Application:
    """Return an application that serves every request with `handle`."""

    async def serve(request: web.Request) -> web.StreamResponse:
        return await _Mounted(request).serve(handle)

    async def take_out(_: web.Request, response: web.StreamResponse) -> None:
        if isinstance(response, _Response):
            for name in response.unwanted:
                response.headers.popall(name, None)

    application = web.Application(client_max_size=0)
    application.router.add_route("*", "/{path:.*}", serve)
    application.on_response_prepare.append(take_out)
    return application


class _Response(web.StreamResponse):
    """A response with the handler's fields."""

    def __init__(self, status: int, reason: str, headers: CIMultiDict[str], length: int | None) -> None:
        super().__init__(status=status, reason=reason, headers=headers)
        self.unwanted = [name for name in _INVENTED if name not in headers]
        if length is not None and status not in (204, 304):
            self.headers["Content-Length"] = str(length)


class _Upgraded(web.StreamResponse):
    """Tells aiohttp that the connection was taken over."""

    @property
    def keep_alive(self) -> bool:
        return False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002
        return None

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002
        return None


class _Body:
    """The body of a request, as aiohttp reads it."""

    trailers: Sequence[Field] = ()

    def __init__(self, request: web.Request) -> None:
        self._content = request.content
        self.complete = self._content.is_eof()
        self.failed = False

    @property
    def received(self) -> int:
        return self._content.total_bytes

    async def read(self) -> bytes:
        try:
            data = await self._content.readany()
        except web.RequestPayloadError as error:
            self.failed = True
            raise RequestError(400, "The framing of the request's body is malformed.") from error
        except ConnectionError as error:
            self.failed = True
            raise ClientGoneError("the client closed the connection") from error
        self.complete = self._content.is_eof()
        return data

    def take(self) -> bytes:
        return self._content.read_nowait()


class _Stream:
    """The connection after a 101 (a RawStream), and the parser that aiohttp gives the client's bytes to."""

    writing_paused = False

    def __init__(self, request: web.Request, send: Callable[[bytes], None], receiver: RawReceiver) -> None:
        self._request = request
        self._send = send
        self._receiver = receiver
        self.closed = asyncio.Event()

    def write(self, data: bytes) -> None:
        if self._request.transport is not None:
            self._request.transport.write(data)

    async def drain(self) -> None:
        await self._request.writer.drain()

    def pause_reading(self) -> None:
        if self._request.transport is not None:
            self._request.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._request.transport is not None:
            self._request.transport.resume_reading()

    def close(self) -> None:
        self.closed.set()

    def abort(self) -> None:
        self.closed.set()
        reset_connection(self._request.transport)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._receiver.data_received(data)
        return False, b""

    def feed_eof(self) -> None:
        self._receiver.eof_received()


class _Mounted:
    """The exchange of one request (see `msctl.model.exchange.Exchange`), and its sender."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.head = _head(request)
        self.body = _Body(request)
        self.extra: Sequence[Field] = ()
        self.client = _address(request.get_extra_info("peername"))
        self.server = _address(request.get_extra_info("sockname"))
        self.scheme = "https" if request.get_extra_info("sslcontext") is not None else "http"
        self.trusted = False
        self.keep_alive = request.keep_alive
        self.route = ""
        self.status = 0
        self.finished = False
        self._response: _Response | None = None
        self._stream: _Stream | None = None
        self._waiting: list[bytes] = []
        self._size = 0
        self._changed = asyncio.Event()
        self._sent = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    async def serve(self, handle: Handler) -> web.StreamResponse:
        """Run the handler, and send what it writes."""
        exchange: Exchange = self
        handling = asyncio.ensure_future(handle(exchange))
        handling.add_done_callback(lambda _: self._changed.set())
        try:
            return await self._send(handling)
        finally:
            self.on_disconnect(None)
            handling.cancel()
            await asyncio.gather(handling, return_exceptions=True)

    async def _send(self, handling: asyncio.Future[None]) -> web.StreamResponse:
        while True:
            await self._changed.wait()
            self._changed.clear()
            response = self._response
            if self._stream is not None:
                await asyncio.wait([handling])
                return _Upgraded()
            if response is not None:
                if not response.prepared:
                    if not self.keep_alive:
                        response.force_close()
                    await response.prepare(self._request)
                pieces, self._waiting, self._size = self._waiting, [], 0
                if pieces:
                    await response.write(b"".join(pieces))
                self._sent.set()
                if self.finished and not self._waiting:
                    await response.write_eof()
                    await asyncio.wait([handling])
                    handling.result()
                    return response
            if handling.done():
                handling.result()
                if self._response is None or not self.finished:
                    raise web.HTTPInternalServerError

    # --- the exchange ---------------------------------------------------------------------------------

    @property
    def received_target(self) -> str:
        return self.head.target

    @property
    def disconnected(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()

    @property
    def head_seconds(self) -> float:
        return 0.0  # aiohttp does not tell

    @property
    def writing_paused(self) -> bool:
        return self._size > HIGH_WATER

    def on_disconnect(self, callback: Callable[[], object] | None) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
        if callback is not None:
            self._watcher = asyncio.ensure_future(self._watch(callback))

    async def _watch(self, callback: Callable[[], object]) -> None:
        while not self.disconnected:  # noqa: ASYNC110 - aiohttp has no event for it
            await asyncio.sleep(WATCH_S)
        self._watcher = None
        callback()

    def interim(self, status: int, reason: bytes, fields: Sequence[Field]) -> None:
        """Do nothing: aiohttp has answered an expectation already, and has no other interim responses."""

    def start(self, status: int, reason: bytes, fields: Sequence[Field], *, length: int | None) -> None:
        self.status = status
        phrase = reason.decode("latin-1") or _phrase(status)
        headers = CIMultiDict([(_text(name), _text(value)) for name, value in fields])
        self._response = _Response(status, phrase, headers, length)

    def flush(self) -> None:
        self._changed.set()

    def write(self, data: bytes) -> None:
        if self.head.method == "HEAD" or self.status in (204, 304):
            return
        self._waiting.append(data)
        self._size += len(data)
        self._sent.clear()
        self._changed.set()

    def finish(self, data: bytes = b"", trailers: Sequence[Field] = ()) -> None:  # noqa: ARG002 - aiohttp sends none
        if data:
            self.write(data)
        self.finished = True
        self._changed.set()

    def respond(self, status: int, reason: bytes, fields: Sequence[Field], body: bytes) -> None:
        self.start(status, reason, fields, length=len(body))
        self.finish(body)

    async def drain(self) -> None:
        while self.writing_paused:
            if self.disconnected:
                raise ClientGoneError("the client closed the connection")
            self._sent.clear()
            await self._sent.wait()

    def abort(self) -> None:
        self.finished = True
        reset_connection(self._request.transport)
        self._changed.set()

    def upgrade(self, fields: Fields, receiver: RawReceiver) -> RawStream:
        transport = self._request.transport
        if transport is None:
            raise ClientGoneError("the client closed the connection")
        self.status = 101
        self.finished = True
        protocol = (self.head.upgrade or "").encode()
        own = [*fields, (b"Connection", b"Upgrade"), (b"Upgrade", protocol)]
        lines = b"".join([b"%b: %b\r\n" % field for field in own])
        transport.write(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % lines)
        stream = self._stream = _Stream(self._request, transport.write, receiver)
        # In the loop's next turn: first the handler gets the stream, then what the client sent early.
        asyncio.get_running_loop().call_soon(self._request.protocol.set_parser, cast(Any, stream))
        self._changed.set()
        return stream


def _head(request: web.Request) -> RequestHead:
    fields = list(request.raw_headers)
    values = request.headers
    declared = values.get("Content-Length", "")
    length = int(declared) if declared.isdigit() else None
    chunked = "chunked" in values.get("Transfer-Encoding", "").lower()
    if request.body_exists and request.content.total_compressed_bytes is not None:
        # This server undoes content codings, and leaves the fields as they were.
        undone = (b"content-encoding", b"content-length", b"transfer-encoding")
        fields = [field for field in fields if field[0].lower() not in undone]
        fields.append((b"Transfer-Encoding", b"chunked"))
        length, chunked = None, True
    upgrade = values.get("Upgrade", "").strip().lower() or None
    if "upgrade" not in values.get("Connection", "").lower():
        upgrade = None
    return RequestHead(
        request.method,
        request.raw_path,
        (request.version.major, request.version.minor),
        tuple(fields),
        keep_alive=request.keep_alive,
        length=length,
        chunked=chunked,
        upgrade=upgrade,
    )


def _address(value: object) -> tuple[str, int]:
    return (str(value[0]), int(value[1])) if isinstance(value, (tuple, list)) and len(value) >= 2 else ("", 0)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")

"""The client's side of an exchange: where an upstream's response goes.

Heads are written as bytes, so that what an upstream said arrives as it was said. Knows aiohttp's
public writer and nothing of upstreams.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11
from multidict import CIMultiDict

from msctl.aio import reset_connection
from msctl.gateway.message.headers import Fields
from msctl.gateway.message.http1 import LAST_CHUNK, chunk, serialize_head
from msctl.gateway.message.response_fields import Edits
from msctl.gateway.request.plan import Plan

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


SMALL = 64 * 1024
"""Bytes up to which a body is put behind its head and both sent at once."""


CLIENT_GONE = 499
"""What is logged and counted where a client did not wait for its answer; it is never sent."""


class ClientGoneError(ConnectionError):
    """The client closed its connection before it had its answer."""


class Relayed(web.StreamResponse):
    """Stands for a response that has been written already; aiohttp has nothing left to send.

    It tells aiohttp whether the connection stays, and nothing else, so two of them serve for all.
    """

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._stays = keep_alive

    @property
    def keep_alive(self) -> bool:
        return self._stays

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002
        return None

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002
        return None


STAYS = Relayed(keep_alive=True)
CLOSES = Relayed(keep_alive=False)


class Downstream:
    """Writes one response to a client. `keep_alive` may be taken back until the head is out.

    `plan`, `request_id` and `traceparent` are what has become known of the request so far; `edits`
    is None as long as X-Request-Id is all that the gateway adds to the response.
    """

    __slots__ = (
        "_chunked",
        "_held",
        "edits",
        "http11",
        "keep_alive",
        "message",
        "plan",
        "request",
        "request_id",
        "started",
        "status",
        "traceparent",
        "version",
        "writer",
    )

    def __init__(self, request: web.Request) -> None:
        self.request = request
        # aiohttp has no public name for what it read; its properties one by one cost a request more
        # than the planning does.
        self.message = message = request._message
        self.writer: AbstractStreamWriter = request.writer
        self.keep_alive = not message.should_close
        self.started = False
        self.status = 0
        self.version = message.version
        self.http11 = self.version >= (1, 1)
        self._chunked = False
        self._held = b""
        self.plan: Plan | None = None
        self.edits: Edits | None = None
        self.request_id = ""
        self.traceparent = ""

    async def interim(self, status: int, reason: bytes, fields: Fields) -> None:
        """A 1xx response; HTTP/1.0 clients do not know these (RFC 9110 §15.2)."""
        if self.http11:
            line = b"HTTP/1.1 %d %b" % (status, reason or _PHRASES.get(status, b""))
            await self.writer.write(serialize_head(line, fields))

    async def start(
        self, status: int, reason: bytes, fields: Fields, *, length: int | None, bodiless: bool
    ) -> None:
        """Begin the response. `fields` have no framing in them but the Content-Length of a response
        without a body, whose length is `length` or, where None, told by chunks or the end."""
        self.started = True
        self.status = status
        if not bodiless and length is None:
            if self.http11:
                self._chunked = True
                fields.append((b"Transfer-Encoding", b"chunked"))
            else:
                self.keep_alive = False
        if status != 101:
            if not self.keep_alive:
                if self.http11:
                    fields.append((b"Connection", b"close"))
            elif not self.http11:
                fields.append((b"Connection", b"keep-alive"))
        line = b"HTTP/1.%d %d %b" % (self.http11, status, reason)
        self._held = serialize_head(line, fields)

    def put(self, status: int, response: bytes) -> None:
        """Send a whole response at once; whoever does so waits if `writing_paused` says so."""
        self.started = True
        self.status = status
        transport = self.request.transport
        if transport is None or transport.is_closing():
            raise ClientGoneError("the client closed the connection")
        transport.write(response)

    async def flush(self) -> None:
        """Send the head now, before there is any body to go with it."""
        if self._held:
            held, self._held = self._held, b""
            await self.writer.write(held)

    async def write(self, data: bytes) -> None:
        if self._chunked:
            data = chunk(data)
        if self._held:
            data, self._held = self._held + data, b""
        await self.writer.write(data)

    async def finish(self, data: bytes = b"") -> web.StreamResponse:
        """End the response, with its last piece if there is one."""
        if self._chunked:
            data = (chunk(data) if data else b"") + LAST_CHUNK
        if self._held:
            if len(data) > SMALL:
                await self.flush()
            else:
                data, self._held = self._held + data, b""
        if data:
            await self.writer.write(data)
        return STAYS if self.keep_alive else CLOSES

    async def answer(self, status: int, reason: bytes, fields: Fields, body: bytes) -> web.StreamResponse:
        """A whole response of the gateway's own."""
        fields.append((b"Date", http_date()))
        bodiless = self.request.method == "HEAD" or status == 204
        if status != 204:
            fields.append((b"Content-Length", b"%d" % len(body)))
        await self.start(status, reason, fields, length=len(body), bodiless=bodiless)
        return await self.finish(b"" if bodiless else body)

    def abort(self) -> web.StreamResponse:
        """The response cannot be completed: the client must not take what it has for the whole."""
        reset_connection(self.request.transport)
        return CLOSES


def edited(down: Downstream, fields: Fields) -> Fields:
    """An upstream's fields as they go to the client."""
    return (down.edits or Edits(down.request_id)).apply(fields)


class Collector(AbstractStreamWriter):
    """Keeps a hosted application's response in memory, at most `limit` bytes of it."""

    chunked = False

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self.length: int | None = None
        self._limit = limit

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        self.output_size += len(chunk)
        if self.output_size > self._limit:
            raise CollectedTooMuchError(self._limit)
        self.data += chunk

    async def write_eof(self, chunk: bytes = b"") -> None:
        if chunk:
            await self.write(chunk)

    async def drain(self) -> None:
        return None

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:  # noqa: ARG002
        # The gateway asks branches for no content coding, and takes none.
        return None

    def enable_chunking(self) -> None:
        return None

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:  # noqa: ARG002
        return None


class CollectedTooMuchError(Exception):
    """A response that was to be kept in memory is longer than allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the response is longer than {limit} bytes")


class MemoryDownstream(Downstream):
    """Keeps a response instead of sending it: a branch of a composed document."""

    def __init__(self, request: web.Request, limit: int) -> None:
        super().__init__(request)
        self.version = HttpVersion11
        self.http11 = True
        self._collector = Collector(limit)
        self.writer = self._collector
        self.fields: Fields = []

    @property
    def body(self) -> bytes:
        return bytes(self._collector.data)

    async def interim(self, status: int, reason: bytes, fields: Fields) -> None:  # noqa: ARG002
        return None

    async def start(
        self,
        status: int,
        reason: bytes,  # noqa: ARG002
        fields: Fields,
        *,
        length: int | None,  # noqa: ARG002
        bodiless: bool,  # noqa: ARG002
    ) -> None:
        self.started = True
        self.status = status
        self.fields = fields

    def abort(self) -> web.StreamResponse:
        return CLOSES


class HttpDate:
    """The Date field's value, made once a second (RFC 9110 §6.6.1)."""

    def __init__(self) -> None:
        self._second = 0
        self._value = b""

    def __call__(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second, self._value = second, formatdate(second, usegmt=True).encode()
        return self._value


http_date = HttpDate()

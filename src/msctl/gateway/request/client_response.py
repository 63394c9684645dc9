"""The response to a client: the side of an exchange that upstreams write to.

Heads are written as bytes, so that fields reach the client exactly as the upstream sent them.
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
"""The size in bytes up to which a body is sent in one write with its head."""


CLIENT_CLOSED = 499
"""The status logged and counted if the client closed the connection early; it is never sent."""


class ClientGoneError(ConnectionError):
    """The client closed its connection before the end of the response."""


class AlreadySent(web.StreamResponse):
    """Tells aiohttp that the response has been sent, and whether to keep the connection.

    It has no other state: KEEP_ALIVE and CLOSE serve all requests.
    """

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._reusable = keep_alive

    @property
    def keep_alive(self) -> bool:
        return self._reusable

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002
        return None

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002
        return None


KEEP_ALIVE = AlreadySent(keep_alive=True)
CLOSE = AlreadySent(keep_alive=False)


class ClientResponse:
    """Writes one response to a client. `keep_alive` may be cleared until the head is sent.

    `plan`, `request_id` and `traceparent` are set as the request is planned. `edits` is None while
    X-Request-Id is all that the gateway adds to the response.
    """

    __slots__ = (
        "_chunked",
        "_pending_head",
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
        # aiohttp has no public name for the parsed message; its properties one by one cost more than
        # planning the request does.
        self.message = message = request._message
        self.writer: AbstractStreamWriter = request.writer
        self.keep_alive = not message.should_close
        self.started = False
        self.status = 0
        self.version = message.version
        self.http11 = self.version >= (1, 1)
        self._chunked = False
        self._pending_head = b""
        self.plan: Plan | None = None
        self.edits: Edits | None = None
        self.request_id = ""
        self.traceparent = ""

    async def interim(self, status: int, reason: bytes, fields: Fields) -> None:
        """Send a 1xx response, except to HTTP/1.0 clients (RFC 9110 §15.2)."""
        if self.http11:
            line = b"HTTP/1.1 %d %b" % (status, reason or _PHRASES.get(status, b""))
            await self.writer.write(serialize_head(line, fields))

    async def start(
        self, status: int, reason: bytes, fields: Fields, *, length: int | None, bodiless: bool
    ) -> None:
        """Start the response.

        `fields` have no framing, except the Content-Length of a bodiless response. `length` is the
        body's length; None means chunks, or the end of the connection for HTTP/1.0.
        """
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
        self._pending_head = serialize_head(line, fields)

    def send_complete(self, status: int, response: bytes) -> None:
        """Send a complete response without waiting; the caller waits if `writing_paused` is set."""
        self.started = True
        self.status = status
        transport = self.request.transport
        if transport is None or transport.is_closing():
            raise ClientGoneError("the client closed the connection")
        transport.write(response)

    async def flush(self) -> None:
        """Send the head now, before any of the body."""
        if self._pending_head:
            head, self._pending_head = self._pending_head, b""
            await self.writer.write(head)

    async def write(self, data: bytes) -> None:
        if self._chunked:
            data = chunk(data)
        if self._pending_head:
            data, self._pending_head = self._pending_head + data, b""
        await self.writer.write(data)

    async def finish(self, data: bytes = b"") -> web.StreamResponse:
        """End the response with its last piece, if any."""
        if self._chunked:
            data = (chunk(data) if data else b"") + LAST_CHUNK
        if self._pending_head:
            if len(data) > SMALL:
                await self.flush()
            else:
                data, self._pending_head = self._pending_head + data, b""
        if data:
            await self.writer.write(data)
        return KEEP_ALIVE if self.keep_alive else CLOSE

    async def answer(self, status: int, reason: bytes, fields: Fields, body: bytes) -> web.StreamResponse:
        """Send a complete response of the gateway's own."""
        fields.append((b"Date", http_date()))
        bodiless = self.request.method == "HEAD" or status == 204
        if status != 204:
            fields.append((b"Content-Length", b"%d" % len(body)))
        await self.start(status, reason, fields, length=len(body), bodiless=bodiless)
        return await self.finish(b"" if bodiless else body)

    def abort(self) -> web.StreamResponse:
        """Reset the connection, so that the client cannot take a partial response for a complete one."""
        reset_connection(self.request.transport)
        return CLOSE


def edited(client: ClientResponse, fields: Fields) -> Fields:
    """Return an upstream's fields as they are sent to the client."""
    return (client.edits or Edits(client.request_id)).apply(fields)


class Collector(AbstractStreamWriter):
    """Keeps a hosted application's response in memory, up to `limit` bytes."""

    chunked = False

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self.length: int | None = None
        self._limit = limit

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        self.output_size += len(chunk)
        if self.output_size > self._limit:
            raise ResponseTooLongError(self._limit)
        self.data += chunk

    async def write_eof(self, chunk: bytes = b"") -> None:
        if chunk:
            await self.write(chunk)

    async def drain(self) -> None:
        return None

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:  # noqa: ARG002
        # Branches are requested without a content coding, and none is accepted.
        return None

    def enable_chunking(self) -> None:
        return None

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:  # noqa: ARG002
        return None


class ResponseTooLongError(Exception):
    """A buffered response exceeds its limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the response is longer than {limit} bytes")


class BufferedResponse(ClientResponse):
    """Keeps a response in memory instead of sending it: a branch of a composed document."""

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
        return CLOSE


class HttpDate:
    """The value of the Date field (RFC 9110 §6.6.1), formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._value = b""

    def __call__(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second, self._value = second, formatdate(second, usegmt=True).encode()
        return self._value


http_date = HttpDate()

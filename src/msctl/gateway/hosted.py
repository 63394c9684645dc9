"""Upstreams in this process: a request goes to a hosted aiohttp application without a network hop.

The application gets a request of its own, with the fields and the target that it would get over a
socket, and writes its response straight to the client; the gateway edits the head on its way out.
"""

from __future__ import annotations

import asyncio
import logging
import re
import weakref
from typing import Any, cast

from aiohttp import WSCloseCode, web
from aiohttp.http import SERVER_SOFTWARE, RawRequestMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDictProxy

from msctl.discovery.registry import Handler
from msctl.gateway.deadline import DeadlineError
from msctl.gateway.downstream import (
    CLOSES,
    SMALL,
    STAYS,
    ClientGoneError,
    CollectedTooMuchError,
    Downstream,
    MemoryDownstream,
    edited,
    http_date,
)
from msctl.gateway.headers import Fields, text
from msctl.gateway.problems import Problem, ProblemError
from msctl.gateway.respond import Edits
from msctl.gateway.upstream import AttemptError, Body, BrokenResponseError, Outgoing, too_large
from msctl.telemetry.logs import current_service

_BODILESS = frozenset({100, 101, 102, 103, 204, 205, 304})
_BODY_TYPES = (bytes, type(None), bytearray)
_UNSAFE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_clock_lines = (b"", "")
_PASSING = frozenset(
    {"Content-Type", "Last-Modified", "ETag", "Cache-Control", "Location", "Vary", "Expires"}
)
"""Names, as aiohttp writes them, of fields that pass as they are and that the gateway never adds."""
_PLAIN_NAMES = frozenset(
    {"Content-Type", "Content-Length", "Date", "Server", "Last-Modified", "ETag", "Cache-Control"}
)
"""Names, as aiohttp writes them, of fields that pass as they are: the usual head needs no second look."""


class HostedRequest(web.Request):
    """The request as the application sees it; the gateway has the last word on the response's head."""

    ATTRS = web.Request.ATTRS | frozenset({"gateway_out", "gateway_sockets"})
    gateway_out: Outgoing
    gateway_sockets: weakref.WeakSet[web.WebSocketResponse]

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        pairs = self.headers.items()
        return tuple((name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in pairs)

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        await super()._prepare_hook(response)
        out = self.gateway_out
        down = out.down
        down.started = True
        down.status = response.status
        out.deadline.move(out.limits.idle_timeout, "body")
        # Asking one of aiohttp's responses for its class is slow: they are abstract mappings.
        if type(response) is not web.Response and isinstance(response, web.WebSocketResponse):
            self.gateway_sockets.add(response)
            for name, value in (down.edits or Edits(out.request_id)).sign([]):
                response.headers.add(text(name), text(value))
        else:
            _edit_head(response, out)


def _edit_head(response: web.StreamResponse, out: Outgoing) -> None:
    """Called with the final head, just before it is written."""
    down, headers = out.down, response.headers
    edits = down.edits or Edits(out.request_id)
    if edits.plain and _PLAIN_NAMES.issuperset(headers):
        headers["X-Request-Id"] = edits.request_id
    else:
        chunked = "Transfer-Encoding" in headers and bool(getattr(down.writer, "chunked", False))
        fields: Fields = [(k.encode(), v.encode("utf-8", "surrogateescape")) for k, v in headers.items()]
        fields = edits.apply(fields)
        headers.clear()
        headers.extend([(text(name), text(value)) for name, value in fields])
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
    if down.http11:
        if not (down.keep_alive and response.keep_alive):
            response.force_close()
            headers["Connection"] = "close"
    elif not down.keep_alive or "Content-Length" not in headers:
        response.force_close()
    else:
        headers["Connection"] = "keep-alive"
    if type(down) is MemoryDownstream:
        down.fields = [(k.encode(), v.encode("utf-8", "surrogateescape")) for k, v in headers.items()]


class HostedUpstream:
    """An application that runs in this process."""

    def __init__(
        self, service: str, instance: str, handler: Handler, *, client_max_size: int, log: logging.Logger
    ) -> None:
        self.address = "in process"
        self._service = service
        self._instance = instance
        self._handler = handler
        self._client_max_size = client_max_size
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._sockets: weakref.WeakSet[web.WebSocketResponse] = weakref.WeakSet()

    @property
    def pool_open(self) -> int:
        return 0

    @property
    def pool_waiting(self) -> int:
        return 0

    async def send(self, out: Outgoing, *, fresh: bool = False) -> web.StreamResponse:  # noqa: ARG002 - no connection
        deadline = out.deadline
        if out.expects_continue:
            await out.invite()
        request = self._request(out)
        deadline.watched = out
        deadline.move(out.limits.response_timeout, "response")
        token = current_service.set(self._service)
        try:
            with deadline:
                try:
                    response = await self._handler(request)
                except web.HTTPException as answer:
                    response = answer
                if _is_whole(response, request):
                    return await _write(response, out)
                started = out.down.started
                _check(response, request, started=started)
                if not started:
                    await response.prepare(request)
                await response.write_eof()
                if not out.down.started:
                    raise TypeError("the handler returned a response that had been sent before")
        except DeadlineError as error:
            raise self._late(out) from error
        except ProblemError:
            raise
        except Exception as error:
            raise self._failed(error, out) from error
        finally:
            current_service.reset(token)
            request._finish()
        # aiohttp would prepare what it is given once more: a file would be sent twice.
        return STAYS if response.keep_alive else CLOSES

    def _failed(self, error: Exception, out: Outgoing) -> Exception:
        """The application's error: nobody else's, and never a clean end of what had begun."""
        down, head = out.down, out.head
        transport = down.request.transport
        if isinstance(error, ConnectionError) and (transport is None or transport.is_closing()):
            return ClientGoneError("the client closed the connection")
        if isinstance(error, CollectedTooMuchError):
            problem = Problem(502, f"The answer of {self._service} is too long.", service=self._service)
            return AttemptError(problem, answered=True)
        if isinstance(error, _ShortBodyError):
            reason = f"{self._service} ended its response {error.missing} bytes before the end of the body"
            self._log.error("%s", reason)
            return BrokenResponseError(reason, down.abort())
        self._log.error(
            "%s %s: the handler of %s raised %s",
            head.method,
            head.target.partition("?")[0],
            self._service,
            type(error).__name__,
            exc_info=error,
        )
        if down.started:
            return BrokenResponseError(f"{self._service} failed in the middle of its response", down.abort())
        return AttemptError(
            Problem(
                500,
                f"The service {self._service} failed to handle the request; its log has the traceback.",
                error="proxy_internal_response",
                service=self._service,
                instance=self._instance,
            ),
            answered=True,
        )

    def _late(self, out: Outgoing) -> Exception:
        if out.down.started:
            reason = f"{self._service} sent nothing for {out.limits.idle_timeout:g} s"
            return BrokenResponseError(reason, out.down.abort())
        return AttemptError(
            Problem(
                504,
                f"{self._instance} did not answer within {out.limits.response_timeout:g} s.",
                error="http_response_timeout",
                service=self._service,
                instance=self._instance,
            )
        )

    def _request(self, out: Outgoing) -> HostedRequest:
        head, body, down = out.head, out.body, out.down
        given = down.request
        message = RawRequestMessage(
            head.method,
            head.target,
            down.version,
            CIMultiDictProxy(head.headers(out.request_id, out.traceparent)),
            (),
            not down.keep_alive,
            None,
            head.upgrade is not None,
            body.chunked,
            head.url,
        )
        content = body.content
        if body.kept:
            content = _refilled(given, body.kept)
        elif body.chunked and body.limit:
            content = cast(StreamReader, _CountedBody(body))
        request = HostedRequest(
            message,
            content,
            given.protocol,
            down.writer,
            given.task,
            self._loop,
            client_max_size=self._client_max_size,
        )
        request.gateway_out = out
        request.gateway_sockets = self._sockets
        return request

    def limit(self, *, pool_size: int, pool_idle: float, retry_body: int) -> None:
        """Nothing of the kind is between the gateway and an application in its own process."""

    async def drain(self) -> None:
        for socket in list(self._sockets):
            if not socket.closed:
                await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the gateway is going away")

    async def close(self) -> None:
        return None


def _is_whole(response: web.StreamResponse, request: HostedRequest) -> bool:
    """Whether a response is of the usual kind: all of it at hand, nothing to be done to it on the way.

    Such a response is written as one from a socket would be, at a fraction of what its general way
    through aiohttp costs. Whatever else a response may be goes that general way.
    """
    if (
        type(response) is not web.Response
        or response.prepared
        or response.compression
        or response.chunked
        or response._cookies
        or request.method == "HEAD"
        or response.status in _BODILESS
        or type(response.body) not in _BODY_TYPES
    ):
        return False
    match = request._match_info
    if match is not None:
        for app in match.apps:
            if app.on_response_prepare:
                return False
    return True


async def _write(response: web.StreamResponse, out: Outgoing) -> web.StreamResponse:
    """Write a whole response; the fields that aiohttp would add are added."""
    down, headers = out.down, response.headers
    body: bytes = response.body or b""  # type: ignore[attr-defined] # a web.Response has one
    if response.keep_alive is False:
        down.keep_alive = False
    edits = down.edits
    if (
        edits is not None
        and edits.plain
        and type(down) is Downstream
        and down.http11
        and _PASSING.issuperset(headers)
        and ("Content-Type" in headers or not body)
    ):
        theirs = response.reason
        for name, value in headers.items():
            theirs = f"{theirs}\r\n{name}: {value}"
        _refuse_control_characters(theirs, len(headers))
        close = "" if down.keep_alive else "Connection: close\r\n"
        head = (
            f"HTTP/1.1 {response.status} {theirs}\r\nContent-Length: {len(body)}\r\n"
            f"{_date_and_server()}X-Request-Id: {edits.request_id}\r\n{close}\r\n"
        )
        down.started = True
        down.status = response.status
        data = head.encode("utf-8", "surrogateescape")
        if len(body) <= SMALL:
            await down.writer.write(data + body)
        else:
            out.deadline.move(out.limits.idle_timeout, "body")
            await down.writer.write(data)
            await down.writer.write(body)
        return STAYS if down.keep_alive else CLOSES
    return await _write_edited(response, body, out)


async def _write_edited(response: web.StreamResponse, body: bytes, out: Outgoing) -> web.StreamResponse:
    """The same, where the head has more to it than usual."""
    down, headers = out.down, response.headers
    out.deadline.move(out.limits.idle_timeout, "body")
    theirs = "\r\n".join([response.reason, *(f"{name}: {value}" for name, value in headers.items())])
    _refuse_control_characters(theirs, len(headers))
    fields: Fields = [
        (name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers.items()
    ]
    if "Content-Length" not in headers:
        fields.append((b"Content-Length", b"%d" % len(body)))
    if body and "Content-Type" not in headers:
        fields.append((b"Content-Type", b"application/octet-stream"))
    if "Date" not in headers:
        fields.append((b"Date", http_date()))
    if "Server" not in headers:
        fields.append((b"Server", SERVER_SOFTWARE.encode()))
    reason = response.reason.encode()
    await down.start(response.status, reason, edited(down, fields), length=len(body), bodiless=False)
    return await down.finish(bytes(body))


def _date_and_server() -> str:
    global _clock_lines
    date = http_date()
    if _clock_lines[0] is not date:
        _clock_lines = (date, f"Date: {date.decode()}\r\nServer: {SERVER_SOFTWARE}\r\n")
    return _clock_lines[1]


def _refuse_control_characters(head: str, ends: int) -> None:
    """A head with so many line ends must have no other ones in it, nor anything else that is unprintable."""
    if head.count("\n") != ends or head.count("\r") != ends or _UNSAFE.search(head):
        raise ValueError("a header field of the response has a control character in it")


def _check(response: object, request: HostedRequest, *, started: bool) -> None:
    """Raises for what is no response, or one that was begun and has not been written to its end."""
    if type(response) is web.Response:
        return
    if not isinstance(response, web.StreamResponse):
        raise TypeError(f"the handler returned {type(response).__name__}, not a response")
    # Response and FileResponse keep their own account of what they send.
    if started and type(response) is web.StreamResponse and request.method != "HEAD":
        missing = request.gateway_out.down.writer.length
        if missing:
            raise _ShortBodyError(missing)


class _ShortBodyError(Exception):
    def __init__(self, missing: int) -> None:
        super().__init__(missing)
        self.missing = missing


class _CountedBody:
    """A body of unknown length on its way to an application, which must not outgrow the limit."""

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


def _refilled(given: web.Request, data: bytes) -> StreamReader:
    """A body that was read beforehand, to be read again."""
    content = StreamReader(given.protocol, 2**16, loop=asyncio.get_running_loop())
    content.set_read_chunk_size(max(1, len(data)))
    content.feed_data(data)
    content.feed_eof()
    return content

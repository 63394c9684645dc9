"""Upstreams in this process: a request goes to a hosted aiohttp application without a network hop.

The application gets a request of its own, with the fields and the target that it would get over a
socket, and writes its response straight to the client; the gateway edits the head on its way out.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from typing import Any, cast

from aiohttp import WSCloseCode, web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from msctl.discovery.registry import Handler
from msctl.gateway.deadline import DeadlineError
from msctl.gateway.downstream import ClientGoneError, CollectedTooMuchError, MemoryDownstream, Relayed
from msctl.gateway.headers import Fields, text
from msctl.gateway.problems import Problem, ProblemError
from msctl.gateway.upstream import AttemptError, Body, BrokenResponseError, Outgoing, too_large
from msctl.telemetry.logs import current_service

_HOP_NAMES = (
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Upgrade",
    "Proxy-Authenticate",
)


class HostedRequest(web.Request):
    """The request as the application sees it; the gateway has the last word on the response's head."""

    ATTRS = web.Request.ATTRS | frozenset({"gateway_hook"})
    gateway_hook: Callable[[web.StreamResponse], None]

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        await super()._prepare_hook(response)
        self.gateway_hook(response)


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
        self._sockets: weakref.WeakSet[web.WebSocketResponse] = weakref.WeakSet()

    @property
    def pool_open(self) -> int:
        return 0

    @property
    def pool_waiting(self) -> int:
        return 0

    async def send(self, out: Outgoing, *, fresh: bool = False) -> web.StreamResponse:  # noqa: ARG002 - no connection
        down = out.down
        await out.invite()
        request = self._request(out)
        deadline = out.deadline
        writer, content = down.writer, out.body.content
        traffic = getattr(down.request.protocol, "received", None)
        deadline.progress = (
            (lambda: writer.output_size + content.total_bytes)
            if traffic is None
            else (lambda: writer.output_size + down.request.protocol.received)  # type: ignore[attr-defined] # of ours
        )
        deadline.move(out.limits.response_timeout, "response")
        token = current_service.set(self._service)
        try:
            try:
                with deadline:
                    response = await self._answer(request, out)
            finally:
                current_service.reset(token)
                request._finish()
        except DeadlineError as error:
            raise self._late(out) from error
        if isinstance(response, web.HTTPException):
            # aiohttp warns about an exception that is returned; what is left of it is only its status.
            return Relayed(response.status, keep_alive=bool(response.keep_alive))
        return response

    async def _answer(self, request: HostedRequest, out: Outgoing) -> web.StreamResponse:
        down = out.down
        try:
            try:
                response = await self._handler(request)
            except web.HTTPException as answer:
                response = answer
            if not isinstance(response, web.StreamResponse):
                raise TypeError(f"the handler returned {type(response).__name__}, not a response")
            if down.started:
                missing = down.writer.length
                # Response and FileResponse keep their own account of what they send.
                if missing and type(response) is web.StreamResponse and request.method != "HEAD":
                    raise _ShortBodyError(missing)
            else:
                await response.prepare(request)
            await response.write_eof()
            if not down.started:
                raise TypeError("the handler returned a response that was sent before")
            return response
        except (asyncio.CancelledError, ProblemError):
            raise
        except Exception as error:  # noqa: BLE001 - an application may raise anything
            return self._failed(error, out)

    def _failed(self, error: Exception, out: Outgoing) -> web.StreamResponse:
        """The application's error: nobody else's, and never a clean end of what had begun."""
        down = out.down
        transport = down.request.transport
        if isinstance(error, ConnectionError) and (transport is None or transport.is_closing()):
            raise ClientGoneError("the client closed the connection") from error
        if isinstance(error, CollectedTooMuchError):
            raise AttemptError(
                Problem(502, f"The answer of {self._service} is too long.", service=self._service),
                answered=True,
            ) from error
        if isinstance(error, _ShortBodyError):
            reason = f"{self._service} ended its response {error.missing} bytes before the end of the body"
            self._log.error("%s", reason)
            raise BrokenResponseError(reason, down.abort()) from error
        self._log.error(
            "%s %s: the handler of %s raised %s",
            out.method,
            out.target.partition("?")[0],
            self._service,
            type(error).__name__,
            exc_info=error,
        )
        if down.started:
            raise BrokenResponseError(
                f"{self._service} failed in the middle of its response", down.abort()
            ) from error
        raise AttemptError(
            Problem(
                500,
                f"The service {self._service} failed to handle the request; its log has the traceback.",
                error="proxy_internal_response",
                service=self._service,
                instance=self._instance,
            ),
            answered=True,
        ) from error

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
        given = out.down.request
        body = out.body
        fields: Fields = (
            [(b"Host", out.host.encode("latin-1")), *out.fields] if out.host else list(out.fields)
        )
        if body.chunked:
            fields.append((b"Transfer-Encoding", b"chunked"))
        elif body.length is not None:
            fields.append((b"Content-Length", b"%d" % body.length))
        if out.upgrade is not None:
            fields += [(b"Connection", b"Upgrade"), (b"Upgrade", out.upgrade.encode())]
        headers = CIMultiDict([(text(name), text(value)) for name, value in fields])
        path, mark, query = out.target.partition("?")
        url = (
            URL.build(path=path, query_string=query, encoded=True)
            if mark
            else URL.build(path=path, encoded=True)
        )
        message = RawRequestMessage(
            out.method,
            out.target,
            HttpVersion11 if isinstance(out.down, MemoryDownstream) else given.version,
            CIMultiDictProxy(headers),
            tuple(fields),
            not out.down.keep_alive,
            None,
            out.upgrade is not None,
            body.chunked,
            url,
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
            out.down.writer,
            given.task,
            asyncio.get_running_loop(),
            client_max_size=self._client_max_size,
        )
        request.gateway_hook = lambda response: self._edit(response, out)
        return request

    def _edit(self, response: web.StreamResponse, out: Outgoing) -> None:
        """Called with the final head, just before it is written."""
        down = out.down
        down.started = True
        down.status = response.status
        out.deadline.move(out.limits.idle_timeout, "body")
        headers = response.headers
        if isinstance(response, web.WebSocketResponse):
            self._sockets.add(response)
            for name, value in out.respond(101, []):
                headers.add(text(name), text(value))
            return
        if not down.keep_alive:
            response.force_close()
        chunked = headers.get("Transfer-Encoding")
        fields: Fields = [(k.encode(), v.encode("utf-8", "surrogateescape")) for k, v in headers.items()]
        edited = out.respond(response.status, fields)
        if edited is not fields:
            headers.clear()
            headers.extend([(text(name), text(value)) for name, value in edited])
        else:
            headers.clear()
            headers.extend([(text(name), text(value)) for name, value in fields])
        if chunked is not None and getattr(out.down.writer, "chunked", False):
            headers["Transfer-Encoding"] = "chunked"
        if isinstance(down, MemoryDownstream):
            down.fields = edited
        http11 = down.request.version >= (1, 1)
        if not http11 and "Content-Length" not in headers:
            response.force_close()
        if not response.keep_alive:
            if http11:
                headers["Connection"] = "close"
        elif not http11:
            headers["Connection"] = "keep-alive"

    async def drain(self) -> None:
        for socket in list(self._sockets):
            if not socket.closed:
                await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the gateway is going away")

    async def close(self) -> None:
        return None


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

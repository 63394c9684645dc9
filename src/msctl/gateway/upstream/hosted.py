"""Upstreams in this process: a request is dispatched to a hosted aiohttp application directly.

The application gets a request object of its own, with the fields and target that it would get over a
socket, and writes its response to the client's connection. The gateway edits the head in aiohttp's
prepare hook.

Two shortcuts, for the common case of a complete `web.Response`:

- `_plain_response` serializes the response itself and sends it in one write, without aiohttp's general
  path. It applies only if that path would produce the same bytes: no streaming, compression, cookies,
  prepare signals or gateway edits. Any other response takes the general path.
- `_heads` caches the checked, serialized head, keyed by everything it is made of: status, reason and
  all header fields. Content-Length, Date, Server, X-Request-Id and Connection are added per response.
"""

from __future__ import annotations

import asyncio
import logging
import re
import weakref
from typing import cast

from aiohttp import WSCloseCode, web
from aiohttp.http import SERVER_SOFTWARE, RawRequestMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDictProxy

from msctl.gateway.eager import yield_to_batch
from msctl.gateway.message.headers import Fields, text
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.message.response_fields import Edits
from msctl.gateway.policies.deadline import DeadlineError
from msctl.gateway.request.client_response import (
    CLOSE,
    KEEP_ALIVE,
    SMALL,
    BufferedResponse,
    ClientGoneError,
    ClientResponse,
    ResponseTooLongError,
    edited,
    http_date,
)
from msctl.gateway.upstream.base import AttemptError, BrokenResponseError, UpstreamRequest
from msctl.gateway.upstream.body import CountedContent, refilled
from msctl.model.endpoint import Handler
from msctl.telemetry.logs.hub import current_service

_BODILESS = frozenset({100, 101, 102, 103, 204, 205, 304})
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
HEAD_CACHE_SIZE = 1024
"""The number of cached heads at which the cache is cleared."""
MAX_CACHED_HEAD = 1024
"""The size in bytes up to which a head is cached."""
_heads: dict[tuple[object, ...], bytes] = {}
_date_lines = (b"", b"")
_UNCHANGED = frozenset(
    {"Content-Type", "Last-Modified", "ETag", "Cache-Control", "Location", "Vary", "Expires"}
)
"""Fields, as aiohttp spells them, that the gateway forwards unchanged and never adds."""
_PLAIN_NAMES = frozenset(
    {"Content-Type", "Content-Length", "Date", "Server", "Last-Modified", "ETag", "Cache-Control"}
)
"""Fields, as aiohttp spells them, that need no editing: a head with no others is sent as it is."""


class HostedRequest(web.Request):
    """The request as the application sees it; its prepare hook edits the response's head."""

    ATTRS = web.Request.ATTRS | frozenset({"gateway_out", "gateway_sockets"})
    gateway_out: UpstreamRequest
    gateway_sockets: weakref.WeakSet[web.WebSocketResponse]

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        pairs = self.headers.items()
        return tuple((name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in pairs)

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        await super()._prepare_hook(response)
        out = self.gateway_out
        client = out.client
        client.started = True
        client.status = response.status
        out.deadline.extend(out.limits.idle_timeout, "body")
        # isinstance is slow for aiohttp's responses, which are abstract mappings.
        if type(response) is not web.Response and isinstance(response, web.WebSocketResponse):
            self.gateway_sockets.add(response)
            for name, value in (client.edits or Edits(client.request_id)).sign([]):
                response.headers.add(text(name), text(value))
        else:
            _edit_head(response, out)


def _edit_head(response: web.StreamResponse, out: UpstreamRequest) -> None:
    """Edit the final head, just before it is written."""
    client, headers = out.client, response.headers
    edits = client.edits
    if edits is None and _PLAIN_NAMES.issuperset(headers):
        headers["X-Request-Id"] = client.request_id
    else:
        chunked = "Transfer-Encoding" in headers and bool(getattr(client.writer, "chunked", False))
        fields: Fields = [(k.encode(), v.encode("utf-8", "surrogateescape")) for k, v in headers.items()]
        fields = edited(client, fields)
        headers.clear()
        headers.extend([(text(name), text(value)) for name, value in fields])
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
    if client.http11:
        if not (client.keep_alive and response.keep_alive):
            response.force_close()
            headers["Connection"] = "close"
    elif not client.keep_alive or "Content-Length" not in headers:
        response.force_close()
    else:
        headers["Connection"] = "keep-alive"
    if type(client) is BufferedResponse:
        client.fields = [(k.encode(), v.encode("utf-8", "surrogateescape")) for k, v in headers.items()]


class HostedUpstream:
    """An instance that runs in this process."""

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

    async def send(self, out: UpstreamRequest, *, fresh: bool = False) -> web.StreamResponse:  # noqa: ARG002 - no connection
        if out.expects_continue:
            await out.send_continue()
        client, deadline = out.client, out.deadline
        request = self._request(out)
        deadline.progress = out
        deadline.extend(out.limits.response_timeout, "response")
        try:
            with deadline:
                # Two stages of a batch: all handlers of the batch, then all responses (see eager.py).
                try:
                    await yield_to_batch()
                    response = await self._handler(request)
                except web.HTTPException as raised:
                    response = raised
                await yield_to_batch()
                plain = _plain_response(response, request, out)
                if plain is not None:
                    client.send_complete(response.status, plain)
                    if request.protocol.writing_paused:
                        deadline.extend(out.limits.idle_timeout, "client reading")
                        await client.writer.drain()
                    return KEEP_ALIVE if client.keep_alive else CLOSE
                started = client.started
                _check(response, request, started=started)
                if not started:
                    _refuse_control_characters(response)
                    await response.prepare(request)
                await response.write_eof()
                if not client.started:
                    raise TypeError("the handler returned a response that had been sent before")
        except DeadlineError as error:
            raise self._late(out) from error
        except ProblemError:
            raise
        except Exception as error:
            raise self._failed(error, out) from error
        finally:
            request._finish()
            request._task = None  # type: ignore[assignment]  # as aiohttp does with the client's own
        # Not the response itself: aiohttp would prepare it again, and send a file twice.
        return KEEP_ALIVE if response.keep_alive else CLOSE

    def _failed(self, error: Exception, out: UpstreamRequest) -> Exception:
        """Convert an error of the application; a response that has started is aborted."""
        client, head = out.client, out.head
        transport = client.request.transport
        if isinstance(error, ConnectionError) and (transport is None or transport.is_closing()):
            return ClientGoneError("the client closed the connection")
        if isinstance(error, ResponseTooLongError):
            problem = Problem(502, f"The response of {self._service} is too long.", service=self._service)
            return AttemptError(problem, answered=True)
        if isinstance(error, _ShortBodyError):
            reason = f"{self._service} ended its response {error.missing} bytes before the end of the body"
            self._log.error("%s", reason)
            return BrokenResponseError(reason, client.abort())
        token = current_service.set(self._service)
        self._log.error(
            "%s %s: the handler of %s raised %s",
            head.method,
            head.target.partition("?")[0],
            self._service,
            type(error).__name__,
            exc_info=error,
        )
        current_service.reset(token)
        if client.started:
            return BrokenResponseError(f"{self._service} failed during its response", client.abort())
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

    def _late(self, out: UpstreamRequest) -> Exception:
        if out.client.started:
            reason = f"{self._service} sent nothing for {out.limits.idle_timeout:g} s"
            return BrokenResponseError(reason, out.client.abort())
        return AttemptError(
            Problem(
                504,
                f"{self._instance} did not answer within {out.limits.response_timeout:g} s.",
                error="http_response_timeout",
                service=self._service,
                instance=self._instance,
            )
        )

    def _request(self, out: UpstreamRequest) -> HostedRequest:
        head, body, client = out.head, out.body, out.client
        given = client.request
        message = RawRequestMessage(
            head.method,
            head.target,
            client.version,
            CIMultiDictProxy(head.headers(out.request_id, out.traceparent)),
            (),
            not client.keep_alive,
            None,
            head.upgrade is not None,
            body.chunked,
            head.url,
        )
        content = body.content
        if body.kept:
            content = refilled(given, body.kept)
        elif body.chunked and body.limit:
            content = cast(StreamReader, CountedContent(body))
        request = HostedRequest(
            message,
            content,
            given.protocol,
            client.writer,
            given.task,
            self._loop,
            client_max_size=self._client_max_size,
        )
        request.gateway_out = out
        request.gateway_sockets = self._sockets
        return request

    def reconfigure(self, *, pool_size: int, pool_idle: float, retry_body: int) -> None:
        """Do nothing: there are no connections."""

    async def drain(self) -> None:
        for socket in list(self._sockets):
            if not socket.closed:
                await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the gateway is going away")

    async def close(self) -> None:
        return None


def _plain_response(
    response: web.StreamResponse, request: HostedRequest, out: UpstreamRequest
) -> bytes | None:
    """Serialize a complete response, or return None for one that needs aiohttp's general path."""
    # Private attributes: the public properties together cost as much as writing the response.
    client = out.client
    if (
        type(response) is not web.Response
        or type(client) is not ClientResponse
        or client.edits is not None
        or not client.http11
        or out.head.method == "HEAD"
        or response._payload_writer is not None
        or response._eof_sent
        or response._compression
        or response._chunked
        or response._cookies
    ):
        return None
    body = response._body
    if body is None:
        body = b""
    elif type(body) is not bytes or len(body) > SMALL:
        return None
    match = request._match_info
    if match is not None:
        for app in match.apps:
            if app.on_response_prepare:
                return None
    headers = response._headers
    signature = (response._status, response._reason, *headers.items())
    head = _heads.get(signature)
    if head is None:
        head = _plain_head(response)
        if len(head) <= MAX_CACHED_HEAD:
            if len(_heads) >= HEAD_CACHE_SIZE:
                _heads.clear()
            _heads[signature] = head
    if not head or (body and "Content-Type" not in headers):
        return None
    if response._keep_alive is False:
        client.keep_alive = False
    return b"%bContent-Length: %d\r\n%bX-Request-Id: %b\r\n%b\r\n%b" % (
        head,
        len(body),
        _date_and_server(),
        client.request_id.encode(),
        b"" if client.keep_alive else b"Connection: close\r\n",
        body,
    )


def _plain_head(response: web.Response) -> bytes:
    """Serialize the head of a response; empty if one of its fields may need editing."""
    headers = response.headers
    if response.status in _BODILESS or not _UNCHANGED.issuperset(headers):
        return b""
    _refuse_control_characters(response)
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "surrogateescape")


def _refuse_control_characters(response: web.StreamResponse) -> None:
    """Raise ValueError for control characters, which could be read as other fields (RFC 9110 §5.5)."""
    for part in (response.reason, *(part for field in response.headers.items() for part in field)):
        if _UNSAFE.search(part):
            raise ValueError("a header field of the response contains a control character")


def _date_and_server() -> bytes:
    """Return the Date and Server lines, formatted once a second."""
    global _date_lines
    date = http_date()
    if _date_lines[0] is not date:
        _date_lines = date, b"Date: %b\r\nServer: %b\r\n" % (date, SERVER_SOFTWARE.encode())
    return _date_lines[1]


def _check(response: object, request: HostedRequest, *, started: bool) -> None:
    """Raise if `response` is not a response, or has started and is incomplete."""
    if type(response) is web.Response:
        return
    if not isinstance(response, web.StreamResponse):
        raise TypeError(f"the handler returned {type(response).__name__}, not a response")
    # Response and FileResponse check their own length.
    if started and type(response) is web.StreamResponse and request.method != "HEAD":
        missing = request.gateway_out.client.writer.length
        if missing:
            raise _ShortBodyError(missing)


class _ShortBodyError(Exception):
    def __init__(self, missing: int) -> None:
        super().__init__(missing)
        self.missing = missing

"""Upstreams in this process: a request goes to a hosted aiohttp application without a network hop.

The application gets a request of its own, with the fields and the target that it would get over a
socket, and writes its response straight to the client; the gateway edits the head on its way out.
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

from msctl.gateway.eager import give_way
from msctl.gateway.message.headers import Fields, text
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.message.response_fields import Edits
from msctl.gateway.policies.deadline import DeadlineError
from msctl.gateway.request.client_response import (
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
from msctl.gateway.upstream.base import AttemptError, BrokenResponseError, Outgoing
from msctl.gateway.upstream.body import CountedContent, refilled
from msctl.model.endpoint import Handler
from msctl.telemetry.logs.hub import current_service

_BODILESS = frozenset({100, 101, 102, 103, 204, 205, 304})
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
MEMORY = 1024
"""Heads remembered; when there are as many, all are forgotten."""
MAX_REMEMBERED = 1024
"""Bytes of a head that is worth remembering."""
_heads: dict[tuple[object, ...], bytes] = {}
"""Services answer with the same heads again and again: each is checked and put together once."""
_stamp = (b"", b"")
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
            for name, value in (down.edits or Edits(down.request_id)).sign([]):
                response.headers.add(text(name), text(value))
        else:
            _edit_head(response, out)


def _edit_head(response: web.StreamResponse, out: Outgoing) -> None:
    """Called with the final head, just before it is written."""
    down, headers = out.down, response.headers
    edits = down.edits
    if edits is None and _PLAIN_NAMES.issuperset(headers):
        headers["X-Request-Id"] = down.request_id
    else:
        chunked = "Transfer-Encoding" in headers and bool(getattr(down.writer, "chunked", False))
        fields: Fields = [(k.encode(), v.encode("utf-8", "surrogateescape")) for k, v in headers.items()]
        fields = edited(down, fields)
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
        if out.expects_continue:
            await out.invite()
        down, deadline = out.down, out.deadline
        request = self._request(out)
        deadline.watched = out
        deadline.move(out.limits.response_timeout, "response")
        try:
            with deadline:
                # The application's code, and after it ours, is run for one request after the other.
                try:
                    await give_way()
                    response = await self._handler(request)
                except web.HTTPException as answer:
                    response = answer
                await give_way()
                whole = _whole(response, request, out)
                if whole is not None:
                    down.put(response.status, whole)
                    if request.protocol.writing_paused:
                        deadline.move(out.limits.idle_timeout, "client reading")
                        await down.writer.drain()
                    return STAYS if down.keep_alive else CLOSES
                started = down.started
                _check(response, request, started=started)
                if not started:
                    _refuse_control_characters(response)
                    await response.prepare(request)
                await response.write_eof()
                if not down.started:
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
            content = refilled(given, body.kept)
        elif body.chunked and body.limit:
            content = cast(StreamReader, CountedContent(body))
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


def _whole(response: web.StreamResponse, request: HostedRequest, out: Outgoing) -> bytes | None:
    """The bytes of a response of the usual kind: all of it at hand, nothing to be done to it on the way.

    Such a response is written as one from a socket would be, at a fraction of what its general way
    through aiohttp costs. Whatever else a response may be goes that general way: then this is None.
    """
    # aiohttp's properties, asked one by one, would cost as much as writing the answer.
    down = out.down
    if (
        type(response) is not web.Response
        or type(down) is not Downstream
        or down.edits is not None
        or not down.http11
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
        if len(head) <= MAX_REMEMBERED:
            if len(_heads) >= MEMORY:
                _heads.clear()
            _heads[signature] = head
    if not head or (body and "Content-Type" not in headers):
        return None
    if response._keep_alive is False:
        down.keep_alive = False
    return b"%bContent-Length: %d\r\n%bX-Request-Id: %b\r\n%b\r\n%b" % (
        head,
        len(body),
        _date_and_server(),
        down.request_id.encode(),
        b"" if down.keep_alive else b"Connection: close\r\n",
        body,
    )


def _plain_head(response: web.Response) -> bytes:
    """The head of a response whose fields may all pass as they are; empty where one may not."""
    headers = response.headers
    if response.status in _BODILESS or not _PASSING.issuperset(headers):
        return b""
    _refuse_control_characters(response)
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "surrogateescape")


def _refuse_control_characters(response: web.StreamResponse) -> None:
    """Raises ValueError for a head whose fields could be read as others (RFC 9110 §5.5)."""
    for part in (response.reason, *(part for field in response.headers.items() for part in field)):
        if _UNSAFE.search(part):
            raise ValueError("a header field of the response has a control character in it")


def _date_and_server() -> bytes:
    """The two lines that a server adds, made once a second."""
    global _stamp
    date = http_date()
    if _stamp[0] is not date:
        _stamp = date, b"Date: %b\r\nServer: %b\r\n" % (date, SERVER_SOFTWARE.encode())
    return _stamp[1]


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

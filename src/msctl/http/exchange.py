"""One request and its response on a client's connection: the `Exchange` of model/exchange.py.

The exchange decides the framing of the response and writes its bytes; everything else about the connection
is the connection's. A response ends in one of three ways: `finished`; given up with the connection
(`abort`, or a body that does not match its length); or the client is gone, after which writes do nothing.

A head is checked for CR and LF as a whole before it is sent, so no field value can add a field or a response.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msctl.http.date import http_date
from msctl.http.refusals import phrase, problem
from msctl.model.exchange import Field, Fields, RawReceiver, RawStream, RequestBody, RequestError, RequestHead

SMALL = 64 * 1024
"""The bytes up to which a piece is copied to go out in one write with what surrounds it."""
_NO_LENGTH = -1


class ClientConnection(Protocol):
    """What an exchange needs of its connection."""

    client: tuple[str, int]
    server: tuple[str, int]
    scheme: str
    head_seconds: float
    lost: bool
    writing_paused: bool

    def can_continue(self) -> bool: ...

    def send_continue(self) -> None: ...

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def abort(self) -> None: ...

    def response_finished(self, *, keep_alive: bool) -> None: ...

    def upgraded(self, receiver: RawReceiver) -> RawStream: ...


class ServerExchange:
    """See `msctl.model.exchange.Exchange`."""

    __slots__ = (
        "_bodiless",
        "_chunked",
        "_connection",
        "_left",
        "_on_disconnect",
        "_pending",
        "body",
        "client",
        "finished",
        "head",
        "keep_alive",
        "route",
        "scheme",
        "server",
        "status",
    )

    extra: Sequence[Field] = ()
    trusted = False

    def __init__(self, connection: ClientConnection, head: RequestHead, body: RequestBody) -> None:
        self._connection = connection
        self.client = connection.client
        self.server = connection.server
        self.scheme = connection.scheme
        self.head = head
        self.body = body
        self.keep_alive = head.keep_alive
        self.route = ""
        self.status = 0
        self.finished = False
        self._on_disconnect: Callable[[], object] | None = None
        self._pending = b""
        self._left = _NO_LENGTH
        self._chunked = False
        self._bodiless = False

    @property
    def received_target(self) -> str:
        return self.head.target

    @property
    def disconnected(self) -> bool:
        return self._connection.lost

    @property
    def head_seconds(self) -> float:
        return self._connection.head_seconds

    @property
    def writing_paused(self) -> bool:
        return self._connection.writing_paused

    def on_disconnect(self, callback: Callable[[], object] | None) -> None:
        self._on_disconnect = callback

    def interim(self, status: int, reason: bytes, fields: Sequence[Field]) -> None:
        if self.status:
            raise RuntimeError("an interim response after the final one has started")
        if not 100 <= status < 200 or status == 101:
            raise ValueError(f"{status} is not the status of an interim response")
        if status == 100:
            self._connection.send_continue()
        elif self.head.version > (1, 0):
            self._connection.write(_head(status, reason, fields, b"\r\n\r\n"))

    def start(self, status: int, reason: bytes, fields: Sequence[Field], *, length: int | None) -> None:
        self._begin(status)
        if self._bodiless:
            # A length of a bodiless response is that of the response to GET (RFC 9110 §8.6).
            end = b"\r\n" if length is None or status == 204 else b"\r\nContent-Length: %d\r\n" % length
        elif length is not None:
            end = b"\r\nContent-Length: %d\r\n" % length
            self._left = length
        elif self.head.version > (1, 0):
            end = b"\r\nTransfer-Encoding: chunked\r\n"
            self._chunked = True
        else:
            end = b"\r\n"
            self.keep_alive = False
        self._pending = self._serialize(status, reason, fields, end)

    def flush(self) -> None:
        if self._pending:
            head, self._pending = self._pending, b""
            self._connection.write(head)

    def write(self, data: bytes) -> None:
        if not self.status or self.finished:
            raise RuntimeError("a body outside of a response")
        if self._bodiless or not data:
            return
        if self._chunked:
            self._send(b"%x\r\n" % len(data), data, b"\r\n")
            return
        if self._left >= 0:
            if len(data) > self._left:
                self.abort()
                raise ValueError("the body is longer than its Content-Length")
            self._left -= len(data)
        self._send(b"", data, b"")

    def finish(self, data: bytes = b"", trailers: Sequence[Field] = ()) -> None:
        if data:
            self.write(data)
        elif not self.status or self.finished:
            raise RuntimeError("the end of a body outside of a response")
        if self._chunked:
            self._send(b"0\r\n", _trailers(trailers), b"\r\n")
        elif self._left > 0:
            self.abort()
            return
        else:
            self.flush()
        self.finished = True
        self._on_disconnect = None
        self._connection.response_finished(keep_alive=self.keep_alive)

    def respond(self, status: int, reason: bytes, fields: Sequence[Field], body: bytes) -> None:
        self._begin(status)
        if self._bodiless and (status == 204 or (status == 304 and not body)):
            end = b"\r\n"
        else:
            end = b"\r\nContent-Length: %d\r\n" % len(body)
        head = self._serialize(status, reason, fields, end)
        if self._bodiless:
            body = b""
        connection = self._connection
        if len(body) <= SMALL:
            connection.write(head + body)
        else:
            connection.write(head)
            connection.write(body)
        self.finished = True
        self._on_disconnect = None
        connection.response_finished(keep_alive=self.keep_alive)

    def refuse(self, error: RequestError) -> None:
        """Answer a request that is at fault, and close; abort if a response has started."""
        if self.finished:
            return
        if self.status:
            self.abort()
            return
        self.keep_alive = False
        self.respond(error.status, b"", *dated_problem(error.status, error.detail))

    async def drain(self) -> None:
        await self._connection.drain()

    def abort(self) -> None:
        self.finished = True
        self.keep_alive = False
        self._on_disconnect = None
        self._connection.abort()

    def upgrade(self, fields: Fields, receiver: RawReceiver) -> RawStream:
        if self.head.upgrade is None:
            raise RuntimeError("an upgrade that the client has not asked for")
        self._begin(101, lowest=101)
        end = b"\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % self.head.upgrade.encode("latin-1")
        self._connection.write(_head(101, b"", fields, end))
        self.finished = True
        self.keep_alive = False
        self._on_disconnect = None
        return self._connection.upgraded(receiver)

    def connection_lost(self) -> None:
        """Tell the handler; called by the connection."""
        callback, self._on_disconnect = self._on_disconnect, None
        if callback is not None and not self.finished:
            callback()

    def _begin(self, status: int, lowest: int = 200) -> None:
        if self.status or self.finished:
            raise RuntimeError("a second response to the same request")
        if not lowest <= status <= 999:
            raise ValueError(f"{status} is not the status of a final response")
        self.status = status
        self._bodiless = self.head.method == "HEAD" or status in (204, 304)

    def _serialize(self, status: int, reason: bytes, fields: Sequence[Field], end: bytes) -> bytes:
        """Return the head; `end` begins with a line end."""
        if self.keep_alive and not self._connection.can_continue():
            self.keep_alive = False
        if self.head.version > (1, 0):
            end += b"\r\n" if self.keep_alive else b"Connection: close\r\n\r\n"
        else:
            end += b"Connection: keep-alive\r\n\r\n" if self.keep_alive else b"\r\n"
        try:
            return _head(status, reason, fields, end)
        except ValueError:
            self.status = 0  # nothing was sent: the handler's error can still be answered
            raise

    def _send(self, before: bytes, data: bytes, after: bytes) -> None:
        connection = self._connection
        head, self._pending = self._pending + before, b""
        if len(data) <= SMALL:
            connection.write(b"".join((head, data, after)))
            return
        if head:
            connection.write(head)
        connection.write(data)
        if after:
            connection.write(after)


def _head(status: int, reason: bytes, fields: Sequence[Field], end: bytes) -> bytes:
    """Return a head; `end` begins with the last field's line end. Raises ValueError for one elsewhere."""
    line = _STATUS_LINES.get((status, reason)) or b"HTTP/1.1 %d %b" % (status, reason)
    lines = b"\r\n".join([line, *map(b": ".join, fields)])
    count = len(fields)
    if lines.count(b"\n") != count or lines.count(b"\r") != count:
        raise ValueError("the reason phrase or a response field has a line end")
    return lines + end


def _trailers(fields: Sequence[Field]) -> bytes:
    lines = b"".join([b"%b: %b\r\n" % field for field in fields])
    if lines.count(b"\n") != len(fields) or lines.count(b"\r") != len(fields):
        raise ValueError("a trailer field has a line end")
    return lines


def dated_problem(status: int, detail: str) -> tuple[Fields, bytes]:
    """Return the fields and the body of a problem document that is sent now."""
    fields, body = problem(status, detail)
    return [*fields, (b"Date", http_date())], body


def refusal(error: RequestError) -> bytes:
    """Return the response to bytes that are not a request."""
    fields, body = dated_problem(error.status, error.detail)
    end = b"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    return _head(error.status, b"", fields, end) + body


_STATUS_LINES = {
    (status, reason): b"HTTP/1.1 %d %b" % (status, phrase(status))
    for status in range(100, 600)
    for reason in (b"", phrase(status))
}

"""One HTTP request and its response: what a server hands to a handler, whatever framework the handler is of.

`msctl.http` makes exchanges from a client's connection, the gateway makes one for a hosted service, and the
adapters of `msctl.hosting` serve them with an aiohttp, ASGI or WSGI application. Knows no framework and does
no I/O itself.

A handler is called once a request's head has arrived; its body may still be arriving. The handler returns
when it has finished the response. The server never cancels it because the client has left: a handler that
wants that asks for it (`on_disconnect`). It is cancelled when the stack stops and its time is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, Self

Field = tuple[bytes, bytes]
"""A header field as it was received: name and value."""
Fields = list[Field]


class RequestHead:
    """The head of a request: immutable, and shared by requests that are equal up to `Exchange.extra`.

    `target` is as received, bytes above 0x7F as surrogate escapes. `fields` keep order and spelling.
    `length` is the Content-Length; `upgrade` is the protocol of an upgrade that is asked for, in lower case.
    `memo` keeps what an adapter derives from the head, by adapter: a shared head is converted only once.
    `fields_memo` is the same for what does not depend on the target: `with_target` shares it.
    """

    __slots__ = (
        "chunked",
        "expects_continue",
        "fields",
        "fields_memo",
        "keep_alive",
        "length",
        "memo",
        "method",
        "target",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        method: str,
        target: str,
        version: tuple[int, int],
        fields: Sequence[Field],
        *,
        keep_alive: bool = True,
        length: int | None = None,
        chunked: bool = False,
        upgrade: str | None = None,
        expects_continue: bool = False,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.keep_alive = keep_alive
        self.length = length
        self.chunked = chunked
        self.upgrade = upgrade
        self.expects_continue = expects_continue
        self.memo: dict[str, Any] = {}
        self.fields_memo: dict[str, Any] = {}

    def with_target(self, target: str) -> Self:
        """Return the same head with another target."""
        head = self.__class__.__new__(self.__class__)  # for each request whose target is new
        head.method = self.method
        head.target = target
        head.version = self.version
        head.fields = self.fields
        head.keep_alive = self.keep_alive
        head.length = self.length
        head.chunked = self.chunked
        head.upgrade = self.upgrade
        head.expects_continue = self.expects_continue
        head.memo = {}
        head.fields_memo = self.fields_memo
        return head


class RequestError(Exception):
    """The client's request is at fault: `status` and `detail` answer it, and no service is charged with it.

    Raised by `RequestBody.read` for a malformed (400), late (408) or too long (413) body. An adapter lets it
    pass when its application does not handle it.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class ClientGoneError(ConnectionError):
    """The client closed its connection before the exchange had ended."""


class ResponseCutError(ConnectionResetError):
    """The application failed within its response, whose connection was aborted; its log says why."""


class RequestBody(Protocol):
    """The body of a request, read once and in order, with bounded memory."""

    @property
    def complete(self) -> bool:
        """Whether the whole body has arrived; `take` then returns what was not read yet."""
        ...

    @property
    def failed(self) -> bool:
        """Whether the rest of it will not arrive; `read` raises."""
        ...

    @property
    def received(self) -> int:
        """The bytes of it that have arrived."""
        ...

    @property
    def trailers(self) -> Sequence[Field]:
        """The trailer fields, once the body is complete."""
        ...

    async def read(self) -> bytes:
        """Return the next piece, b"" at the end.

        The first call sends 100 Continue to a client that waits for it. Raises RequestError, and
        ClientGoneError; also where the response is finished while it waits.
        """
        ...

    def take(self) -> bytes:
        """Return the rest of a complete body."""
        ...


class RawStream(Protocol):
    """The connection after a 101: bytes both ways, without HTTP."""

    @property
    def writing_paused(self) -> bool: ...

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        """Close once everything is written."""
        ...

    def abort(self) -> None: ...


class RawReceiver(Protocol):
    """Receives the client's bytes after a 101."""

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> None:
        """The client sends no more; also called when the connection is lost."""
        ...


class Exchange(Protocol):
    """A request and its response.

    Response fields are end to end: the exchange adds Content-Length, Transfer-Encoding and Connection. It
    sends no body for HEAD, 1xx, 204 and 304, whatever is written. Writes never block; after a large write
    call `drain` while `writing_paused`.
    """

    keep_alive: bool
    """May be cleared until the response starts."""
    route: str
    """The pattern that matched, such as /users/{id}; an adapter sets it if its framework tells it."""

    @property
    def head(self) -> RequestHead: ...

    @property
    def received_target(self) -> str:
        """The target as the client sent it, from which relative links are resolved."""
        ...

    @property
    def extra(self) -> Sequence[Field]:
        """Fields of this request beyond the head's."""
        ...

    @property
    def body(self) -> RequestBody: ...

    @property
    def client(self) -> tuple[str, int]:
        """The peer's address and port; ("", 0) for a Unix socket."""
        ...

    @property
    def server(self) -> tuple[str, int]:
        """The address and port at which the connection was accepted."""
        ...

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        ...

    @property
    def trusted(self) -> bool:
        """Whether X-Forwarded fields are the gateway's own, `client` and `scheme` the real client's."""
        ...

    @property
    def status(self) -> int:
        """The status of the response; 0 until it has started."""
        ...

    @property
    def finished(self) -> bool: ...

    @property
    def disconnected(self) -> bool: ...

    @property
    def head_seconds(self) -> float:
        """How long the head took to arrive, from its first byte on; 0 if it came at once."""
        ...

    @property
    def writing_paused(self) -> bool: ...

    def on_disconnect(self, callback: Callable[[], object] | None) -> None:
        """Call `callback` when the client's connection is lost before the response is finished."""
        ...

    def interim(self, status: int, reason: bytes, fields: Sequence[Field]) -> None:
        """Send a 1xx response, except to an HTTP/1.0 client (RFC 9110 §15.2)."""
        ...

    def start(self, status: int, reason: bytes, fields: Sequence[Field], *, length: int | None) -> None:
        """Begin the response. The head is sent with the first piece of the body, or by `flush`.

        `length` is the Content-Length; None means chunks, or the end of the connection for HTTP/1.0.
        """
        ...

    def flush(self) -> None:
        """Send the head now, before any of the body."""
        ...

    def write(self, data: bytes) -> None: ...

    def finish(self, data: bytes = b"", trailers: Sequence[Field] = ()) -> None:
        """End the response with its last piece. A body shorter than its length aborts the connection."""
        ...

    def respond(self, status: int, reason: bytes, fields: Sequence[Field], body: bytes) -> None:
        """Send a complete response in one write."""
        ...

    async def drain(self) -> None:
        """Wait until the client has read enough; raises ClientGoneError."""
        ...

    def abort(self) -> None:
        """Reset the connection, so that a partial response cannot be taken for a complete one."""
        ...

    def upgrade(self, fields: Fields, receiver: RawReceiver) -> RawStream:
        """Send 101 with `fields` (Connection and Upgrade are added) and hand the connection over."""
        ...


Handler = Callable[[Exchange], Awaitable[None]]
"""Serves one exchange. An exception other than RequestError and ConnectionError is a bug of the handler."""

"""One request to a WSGI application (PEP 3333): the application in a thread, the exchange on the loop.

The thread never touches the exchange. It waits for the loop when it reads a body that has not arrived, and
for each piece of the response that it sends, so a slow client slows down its own thread alone. When the
client has left, the next piece ends the application's iterable.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, TypeVar
from wsgiref.util import FileWrapper

from msctl.hosting.forwarding import Trusts
from msctl.hosting.response_fields import BODILESS, ResponseHead, response_head
from msctl.hosting.service_log import ServiceLog
from msctl.hosting.standard_answers import respond_failed, respond_unavailable
from msctl.hosting.wsgi.environ import Environ, environ_of
from msctl.hosting.wsgi.websocket import WebSocketRelay
from msctl.model.exchange import ClientGoneError, Exchange, RequestError, ResponseCutError

T = TypeVar("T")
Application = Callable[[Environ, Callable[..., Callable[[bytes], None]]], Iterable[bytes]]
_BUFFER = 64 * 1024


class BodyCutError(OSError):
    """The request's body does not arrive in full."""


class WsgiRequest:
    """One request; `run` belongs to the thread, what begins with `_on_loop` to the loop."""

    def __init__(
        self,
        exchange: Exchange,
        trusts: Trusts,
        extra: Environ,
        loop: asyncio.AbstractEventLoop,
        log: ServiceLog,
        relay: WebSocketRelay | None = None,
    ) -> None:
        """`extra` are msctl's own entries of the environ; `relay` is for a request to open a WebSocket."""
        self._exchange = exchange
        self._relay = relay
        self._loop = loop
        self._log = log
        self._head: ResponseHead | None = None
        self._left: int | None = None
        self._pattern = ""
        self._sent = False
        """Whether a piece of the response is with the loop."""
        self._complete = False
        self._cut = False
        """Whether the exchange is over for the application: the client has left, or its body is broken."""
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when the response is complete or failed; its exception is for the exchange's server."""
        body = exchange.body
        given = io.BytesIO(body.take()) if body.complete else io.BufferedReader(_Body(self), _BUFFER)
        self._environ = {**environ_of(exchange, given, trusts), **extra}
        if relay is not None:
            relay.extend(self._environ)
            relay.ended.add_done_callback(lambda _: self.abandon() if relay.used else None)

    # --- in the thread ----------------------------------------------------------------------------

    def run(self, application: Application) -> None:
        """Serve the request."""
        environ = self._environ
        try:
            iterable = application(environ, self._start_response)
            try:
                if not self._upgraded:
                    self._send_all(iterable)
            finally:
                close = getattr(iterable, "close", None)
                if close is not None:
                    close()
            if not self._upgraded:
                self._finish()
        except ClientGoneError:
            pass
        except BaseException as error:  # noqa: BLE001 - an application may raise anything
            # StopIteration is how Gunicorn is told that the application has taken the connection.
            if not self._cut and not (self._upgraded and isinstance(error, StopIteration)):
                self._log.failed(self._name, error)
        finally:
            self._post(self._on_loop_end)

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self._sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # a traceback refers to this frame
        elif self._head is not None:
            raise RuntimeError("start_response was called a second time, without exc_info")
        if not isinstance(status, str):
            raise TypeError(f"a WSGI status must be a string, not {type(status).__name__}")
        code, _, reason = status.partition(" ")
        if not (code.isascii() and code.isdigit()):
            raise RuntimeError(f"Invalid WSGI status {status!r}.")
        fields = [(_encoded(name), _encoded(value)) for name, value in headers]
        phrase = _printable(reason).encode("latin-1")
        self._head = response_head(int(code), fields, phrase, method=self._exchange.head.method)
        self._left = self._head.length
        # Flask forgets it before the body is sent.
        self._pattern = _route_pattern(self._environ)
        return self._write

    def _send_all(self, iterable: Iterable[bytes]) -> None:
        """Send the pieces, no more than Content-Length says (PEP 3333)."""
        whole = len(iterable) == 1 if isinstance(iterable, (list, tuple)) else False
        for piece in iterable:
            if whole and not self._sent and self._left is None:
                self._left = len(piece)
            left = self._left
            if left is not None and len(piece) > left and not self._bodiless:
                if not isinstance(iterable, FileWrapper):  # which may send a range of a file
                    self._log.line(f"{self._name}: the response is longer than its Content-Length", "warning")
                if left:
                    self._write(piece[:left])
                break
            if piece:
                self._write(piece)

    def _write(self, piece: bytes) -> None:
        if not isinstance(piece, bytes):
            raise TypeError(f"a WSGI application sends bytes, not {type(piece).__name__}")
        if self._head is None:
            raise RuntimeError("the application sent a body before start_response")
        if self._complete and not self._bodiless:
            raise RuntimeError("the response is longer than its Content-Length, or written too late")
        if self._bodiless or not piece:
            return  # the head waits for the first piece that is not empty (PEP 3333)
        if self._left is not None:
            self._left -= len(piece)
            if self._left < 0:
                raise RuntimeError("the response is longer than its Content-Length")
            if not self._left:
                self._complete = True
                head, first, self._sent = self._head, not self._sent, True
                self._post(partial(self._on_loop_finish, head, first, piece))
                return
        self._sent = True
        self._wait(self._on_loop_write(self._head, piece))

    def _finish(self) -> None:
        """End the response, once the iterable has ended."""
        if self._complete:
            return
        if self._head is None:
            raise RuntimeError("the application returned without calling start_response")
        if self._left and not self._bodiless:
            raise RuntimeError("the response is shorter than its Content-Length")
        self._complete = True
        self._post(partial(self._on_loop_finish, self._head, not self._sent, b""))

    @property
    def _upgraded(self) -> bool:
        return self._relay is not None and self._relay.used

    @property
    def _name(self) -> str:
        return f"{self._environ['REQUEST_METHOD']} {self._environ['PATH_INFO']}"

    @property
    def _bodiless(self) -> bool:
        head = self._head
        return self._exchange.head.method == "HEAD" or (head is not None and head.status in BODILESS)

    def _post(self, step: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(step)
        except RuntimeError:
            pass  # the loop is closed, and with it all connections

    def _wait(self, step: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result()

    def read(self) -> bytes:
        """Return the next piece of the body, b"" at its end; for a thread. Raises BodyCutError."""
        try:
            return self._wait(self._on_loop_read())
        except (RequestError, ClientGoneError) as error:
            raise BodyCutError(str(error)) from None

    # --- on the loop ------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Send nothing more: the exchange is another's now."""
        self._cut = True
        self._end()

    def expire(self) -> None:
        """End the exchange: the service stops and the request's time is over."""
        if self._relay is not None:
            self._relay.abort()
        if not self._gone and not self._complete:
            if self._exchange.status:
                self._exchange.abort()
            else:
                respond_unavailable(self._exchange, self._log.service)
        self.abandon()

    @property
    def _gone(self) -> bool:
        return self._cut or self._exchange.disconnected

    async def _on_loop_read(self) -> bytes:
        if self._gone:
            self._cut = True
            raise ClientGoneError("the client has left")
        body = self._exchange.body
        try:
            return body.take() if body.complete else await body.read()
        except ClientGoneError:
            self._cut = True
            raise
        except RequestError as error:
            self._cut = True
            if self._exchange.status:
                self._exchange.abort()
                self._end(ClientGoneError(error.detail))
            else:
                self._end(error)
            raise

    async def _on_loop_write(self, head: ResponseHead, piece: bytes) -> None:
        exchange = self._exchange
        if self._gone:
            raise ClientGoneError("the client has left")
        if not exchange.status:
            self._on_loop_start(head, head.length)
        exchange.write(piece)
        if exchange.writing_paused:
            await exchange.drain()

    def _on_loop_start(self, head: ResponseHead, length: int | None) -> None:
        if head.close:
            self._exchange.keep_alive = False
        self._exchange.start(head.status, head.reason, head.fields, length=length)

    def _on_loop_finish(self, head: ResponseHead, first: bool, piece: bytes) -> None:
        exchange = self._exchange
        if not self._gone:
            exchange.route = self._pattern
            try:
                if not first:
                    exchange.finish(piece)
                elif self._bodiless:
                    self._on_loop_start(head, head.length)
                    exchange.finish()
                else:
                    if head.close:
                        exchange.keep_alive = False
                    exchange.respond(head.status, head.reason, head.fields, piece)
            except ClientGoneError:
                pass
        self._end()

    def _on_loop_end(self) -> None:
        """The thread is done with the request: answer in the application's place if it has failed."""
        if self._relay is not None:
            self._relay.finish()
            if self._relay.used:
                return  # ended with the connection
        if not self._complete and not self._gone:
            if self._exchange.status:
                self._exchange.abort()
                self._end(ResponseCutError(f"{self._log.service} failed during its response"))
            else:
                respond_failed(self._exchange)
        self._end()

    def _end(self, error: Exception | None = None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)


class _Body(io.RawIOBase):
    """A body that still arrives; a BufferedReader around it is `wsgi.input`."""

    def __init__(self, request: WsgiRequest) -> None:
        super().__init__()
        self._request = request
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = self._request.read()
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _encoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"the name and value of a WSGI header must be strings, not {type(text).__name__}")
    return text.encode("latin-1")


def _printable(reason: str) -> str:
    if not reason.isprintable():
        raise RuntimeError("Invalid WSGI reason phrase.")
    return reason


def _route_pattern(environ: Environ) -> str:
    """Return the pattern of the route, such as /users/<id>, which Flask leaves in the environ."""
    rule = getattr(getattr(environ.get("werkzeug.request"), "url_rule", None), "rule", None)
    return rule if isinstance(rule, str) else ""

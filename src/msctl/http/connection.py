"""One client's connection: between the sockets of asyncio and the parser, one request at a time.

Each exchange has a task of its own, which runs the handler: context variables that it sets, and cancellations
of its task, end with it. While it runs, what arrives goes to the body of that exchange, and what follows the
body stays in the parser until the response is finished; both are bounded by pausing the transport. The
handler is not cancelled when the client leaves.

States, by what holds:
- waiting: `_exchange` is None. Bytes go to the parser; a head begins an exchange and its task.
- serving: `_exchange` is set. Bytes go to its body, then to the parser.
- raw: `_raw` is set, after a 101. Bytes go to the receiver that took the connection over.
- lingering: `_lingering` is set. The last response is sent, the client may still be sending (lingering.py).
- lost: the transport is gone. The task ends with its handler.

A client that ends its side while it is served is probed (client_probe.py).

One timer per connection, moved only when it fires: it closes a connection that is idle, refuses a head that
takes too long, and aborts one whose client does not read what was written.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from msctl.aio import reset_connection
from msctl.http.body import EMPTY, HIGH_WATER, BodyStream
from msctl.http.client_probe import CONTINUE, ClientProbe
from msctl.http.exchange import ServerExchange
from msctl.http.head_reader import HeadReader
from msctl.http.limits import HttpLimits
from msctl.http.lingering import Lingering
from msctl.http.parser import RequestParser
from msctl.http.raw_input import RawInput
from msctl.model.exchange import ClientGoneError, Handler, RawReceiver, RawStream, RequestBody, RequestError

PIPELINED = 64 * 1024
"""The bytes of later requests that are kept while one is served; more wait in the socket."""
DRAINED = 256 * 1024
"""The bytes of an unread body that are read and dropped to keep the connection; for more it is closed."""
DRAIN_S = 10.0
"""How long that may take."""


class ConnectionServer(Protocol):
    """What a connection needs of the server that made it."""

    handler: Handler
    limits: HttpLimits
    heads: HeadReader
    closing: bool

    def add(self, connection: Connection) -> None: ...

    def discard(self, connection: Connection) -> None: ...

    def refused(self, connection: Connection, error: RequestError) -> None: ...

    def handler_failed(self, exchange: ServerExchange, error: BaseException | None) -> None: ...


class Connection(asyncio.Protocol):
    """The server's side of one connection."""

    __slots__ = (
        "_aborted",
        "_body",
        "_continue_wanted",
        "_drain_waiters",
        "_eof",
        "_exchange",
        "_idle_since",
        "_lingering",
        "_loop",
        "_parser",
        "_probe",
        "_raw",
        "_reading_paused",
        "_sent_before",
        "_server",
        "_task",
        "_timer",
        "_tls",
        "_transport",
        "client",
        "head_seconds",
        "lost",
        "scheme",
        "server",
        "writing_paused",
        "written",
    )

    def __init__(self, server: ConnectionServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._parser = RequestParser(server.heads)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._exchange: ServerExchange | None = None
        self._body: BodyStream | None = None
        self._raw: RawInput | None = None
        self._lingering: Lingering | None = None
        self._probe: ClientProbe | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._drain_waiters: list[asyncio.Future[None]] = []
        self._idle_since = 0.0
        self._sent_before = 0
        self._eof = False
        self._tls = False
        self._aborted = False
        self._continue_wanted = False
        self._reading_paused = False
        self.written = 0
        self.writing_paused = False
        self.lost = False
        self.client: tuple[str, int] = ("", 0)
        self.server: tuple[str, int] = ("", 0)
        self.scheme = "http"
        self.head_seconds = 0.0

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that runs the handler, if it has one."""
        return self._task

    # --- callbacks of the event loop ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.client = _address(transport.get_extra_info("peername"))
        self.server = _address(transport.get_extra_info("sockname"))
        if transport.get_extra_info("sslcontext") is not None:
            self._tls = True
            self.scheme = "https"
        self._server.add(self)
        self._idle_since = self._loop.time()
        self._timer = self._loop.call_later(self._server.limits.keepalive, self._on_timer)

    def data_received(self, data: bytes) -> None:
        if self._lingering is not None:
            self._lingering.data_received(data)
        elif self._exchange is None:
            begins = not self._parser.buffer
            self.head_seconds = 0.0 if begins else self._loop.time() - self._idle_since
            self._parser.feed(data)
            self._next_request()
            if begins and self._exchange is None:
                self._idle_since = self._loop.time()  # a head may take as long as the connection may be idle
        elif self._raw is not None:
            self._raw.data_received(data)
        else:
            self._parser.feed(data)
            if self._body is not None:
                self._feed_body(self._body)
            if len(self._parser.buffer) > PIPELINED:
                self.pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        exchange, transport = self._exchange, self._transport
        if self._lingering is not None or exchange is None or transport is None:
            return False
        if self._raw is not None:
            self._raw.end()
        elif self._body is not None:
            self._body.fail(RequestError(400, "The client ended the connection in the middle of the body."))
        if self._tls:
            return False  # asyncio cannot keep half of a TLS connection open
        self._probe = ClientProbe(self, exchange, transport, self._loop)
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.lost = True
        self._transport = None
        for ends in (self._timer, self._probe, self._lingering):
            if ends is not None:
                ends.cancel()
        self._timer = self._probe = self._lingering = None
        self._wake_drain()
        if self._body is not None:
            self._body.fail(ClientGoneError("the client closed the connection in the middle of the body"))
        self._eof = True
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.end()
        if self._exchange is not None:
            self._exchange.connection_lost()
        if self._task is None:
            self._server.discard(self)

    def pause_writing(self) -> None:
        self.writing_paused = True

    def resume_writing(self) -> None:
        self.writing_paused = False
        self._wake_drain()

    # --- requests -------------------------------------------------------------------------------------

    def _next_request(self) -> None:
        """Begin the next exchange if its head has arrived."""
        try:
            head = self._parser.next_head()
        except RequestError as error:
            self._server.refused(self, error)
            return
        if head is None:
            return
        body: RequestBody = EMPTY
        if not self._parser.complete:
            body = self._body = BodyStream(self)
            self._continue_wanted = head.expects_continue
            self._feed_body(self._body)
        self._exchange = exchange = ServerExchange(self, head, body)
        self._task = self._loop.create_task(self._serve(exchange))

    async def _serve(self, exchange: ServerExchange) -> None:
        """Run the handler, and begin the next request, wait for it or close."""
        server = self._server
        try:
            try:
                await server.handler(exchange)
            except Exception as error:  # noqa: BLE001 - judged by the server
                server.handler_failed(exchange, error)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # The handler awaited something that was cancelled: an error of its own.
                server.handler_failed(exchange, error)
            else:
                if not exchange.finished and not self.lost:
                    server.handler_failed(exchange, None)
            keep_alive = exchange.keep_alive and (self._body is None or await self._drop_body(self._body))
            if keep_alive and self.writing_paused:
                await self._until_sent()  # else a client that never reads could pile up responses
        except BaseException:
            self.abort()
            raise
        finally:
            self._task = self._exchange = None
            if self.lost:
                server.discard(self)
        if self.lost:
            return
        if not keep_alive:
            self.close()
            return
        self._idle_since = self._loop.time()
        self.resume_reading()
        if self._parser.buffer:
            self.head_seconds = 0.0
            self._next_request()
        if self._eof or server.closing:
            self.close_if_idle()

    async def _until_sent(self) -> None:
        try:
            await self.drain()
        except ClientGoneError:
            pass

    async def _drop_body(self, body: BodyStream) -> bool:
        """Read what the handler left of the body; return whether the next request can be found."""
        size = len(body.take())
        try:
            async with asyncio.timeout(DRAIN_S):
                while piece := await body.read():
                    size += len(piece)
                    if size > DRAINED:
                        return False
        except (TimeoutError, RequestError, ConnectionError):
            return False
        return True

    def can_continue(self) -> bool:
        """Return whether another request can follow the one that is being answered."""
        if self._server.closing or (self._eof and not self._parser.buffer):
            return False
        body = self._body
        if body is None:
            return True
        # Without its 100, nobody knows whether the client will send the body. Dropping a long one is no gain.
        return not (self._continue_wanted or body.failed or (self._parser.left or 0) > DRAINED)

    def response_finished(self, *, keep_alive: bool) -> None:
        """The response is written; the handler may still run, for instance its background tasks."""
        if self._body is not None:
            self._body.interrupt()
        if not keep_alive:
            self.close()

    # --- the body -------------------------------------------------------------------------------------

    def _feed_body(self, body: BodyStream) -> None:
        if body.failed:
            self._parser.take_rest()
            return
        parser = self._parser
        try:
            piece = parser.next_piece()
        except RequestError as error:
            parser.take_rest()
            body.fail(error)
            return
        if piece:
            self._continue_wanted = False
            body.append(piece)
            if body.waiting > HIGH_WATER:
                self.pause_reading()
        if parser.complete:
            body.end(parser.trailers)
            self._body = None

    def body_wanted(self) -> None:
        self.send_continue()
        self.resume_reading()

    def send_continue(self) -> None:
        """Send a 100 response to a client that still waits for it."""
        if self._continue_wanted:
            self._continue_wanted = False
            self.write(CONTINUE)

    def pause_reading(self) -> None:
        transport = self._transport
        if transport is not None and not (self._reading_paused or self._eof or transport.is_closing()):
            self._reading_paused = True
            transport.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    # --- writing and closing --------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write without waiting; does nothing once the connection is lost."""
        transport = self._transport
        if transport is not None and self._lingering is None and not transport.is_closing():
            self.written += len(data)
            transport.write(data)

    async def drain(self) -> None:
        if self._transport is not None and self._transport.is_closing():
            await asyncio.sleep(0)  # a write has failed: the connection is lost in the loop's next turn
        if self.writing_paused and not self.lost:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._drain_waiters.append(waiter)
            try:
                await waiter
            finally:
                self._drain_waiters.remove(waiter)
        if self.lost or self._aborted:
            raise ClientGoneError("the client closed the connection")

    def close(self) -> None:
        """Close once everything is written; go on reading if the client may still be sending."""
        sending = self._body is not None or bool(self._parser.buffer)
        self._close(linger=sending and self._raw is None)

    def _close(self, *, linger: bool) -> None:
        transport = self._transport
        if transport is None or self._lingering is not None or transport.is_closing():
            return
        if self._eof or not linger:
            transport.close()
            return
        left = self._parser.left if self._body is not None else None
        self._parser.take_rest()
        if self._body is not None:
            self._body.fail(ClientGoneError("the connection is closed"))
            self._body = None
        self.resume_reading()
        if self._timer is not None:
            self._timer.cancel()
        self._lingering = Lingering(transport, self._loop, left=left, half_close=not self._tls)

    def close_if_idle(self) -> None:
        """Close unless a request is being served, or a response is being sent."""
        if self._exchange is None:
            self._close(linger=False)

    def abort(self) -> None:
        """Reset the connection."""
        transport, self._transport = self._transport, None
        if transport is not None:
            self._aborted = True
            reset_connection(transport)

    def refuse(self, response: bytes) -> None:
        """Send a response to bytes that are not a request, and close."""
        self.write(response)
        self._close(linger=True)  # nobody knows where the client is in what it sends

    def upgraded(self, receiver: RawReceiver) -> RawStream:
        """Give the connection to `receiver`, and first what the client sent after its request."""
        self._raw = RawInput(receiver, self._parser.take_rest())
        self._loop.call_soon(self._raw.end if self._eof else self._raw.deliver_early)
        self.resume_reading()
        return self

    # --- the timer ------------------------------------------------------------------------------------

    def _on_timer(self) -> None:
        """Close an idle connection, refuse a slow head, abort if the client does not read."""
        transport, keepalive = self._transport, self._server.limits.keepalive
        if transport is None:
            return
        delay = keepalive
        unsent = transport.get_write_buffer_size()
        if unsent:
            sent = self.written - unsent
            if sent == self._sent_before:
                self.abort()
                return
            self._sent_before = sent
        elif self._exchange is None:
            delay = self._idle_since + keepalive - self._loop.time()
            if delay <= 0:
                if self._parser.buffer:
                    self._server.refused(self, RequestError(408, f"No complete head within {keepalive:g} s."))
                else:
                    transport.close()
                delay = keepalive
        if self._timer is not None and self._lingering is None:
            self._timer = self._loop.call_later(delay, self._on_timer)

    def _wake_drain(self) -> None:
        for waiter in self._drain_waiters:
            if not waiter.done():
                waiter.set_result(None)


def _address(value: object) -> tuple[str, int]:
    """Return the address and port of a socket; ("", 0) for a Unix socket."""
    return (str(value[0]), int(value[1])) if isinstance(value, (tuple, list)) and len(value) >= 2 else ("", 0)

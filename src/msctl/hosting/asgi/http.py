"""One HTTP request to an ASGI application (ASGI 3.0, HTTP & WebSocket specification 2.3).

The application runs in a task and a context of its own. `ended` resolves when its response is complete; what
it does after that (background tasks) delays nobody. Messages after the client has left are dropped, and the
application goes on.

A body that the client breaks (malformed, too long, late) ends the exchange with its RequestError. The
application sees the client leave: to raise the error inside it would let it answer for something that is not
its fault.
"""

from __future__ import annotations

import asyncio

from msctl.hosting.asgi.response import Response
from msctl.hosting.asgi.route_pattern import route_pattern
from msctl.hosting.asgi.scope import Message, Scope
from msctl.model.exchange import ClientGoneError, Exchange, RequestError

_DISCONNECT = "http.disconnect"


class HttpRequest:
    """The `receive` and `send` of one request."""

    __slots__ = ("_body_ended", "_exchange", "_gone", "_over", "_response", "_scope", "ended", "refused")

    def __init__(self, exchange: Exchange, scope: Scope, loop: asyncio.AbstractEventLoop) -> None:
        self._exchange = exchange
        self._scope = scope
        self._response = Response(exchange, loop, "http.response")
        self._body_ended = False
        self._gone = False
        self._over: asyncio.Event | None = None
        """Set when there is nothing more to receive; exists once the application waits for that."""
        self.refused = False
        """Whether the body failed, so that an exception of the application tells nothing new."""
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when the response is complete or failed; its exception is for the exchange's server."""

    @property
    def started(self) -> bool:
        return self._response.started

    @property
    def complete(self) -> bool:
        return self._response.complete

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the response any more."""
        return self._gone or self._exchange.disconnected

    async def receive(self) -> Message:
        if self.gone or self._response.complete:
            return {"type": _DISCONNECT}
        if self._body_ended:
            await self._wait_over()
            return {"type": _DISCONNECT}
        body = self._exchange.body
        try:
            piece = body.take() if body.complete else await body.read()
        except RequestError as error:
            self._refuse(error)
            return {"type": _DISCONNECT}
        except ClientGoneError:
            self.refused = self._gone = not self._response.complete
            return {"type": _DISCONNECT}
        if not piece or body.complete:
            piece += body.take() if piece else b""
            self._body_ended = True
        return {"type": "http.request", "body": piece, "more_body": not self._body_ended}

    async def send(self, message: Message) -> None:
        if self.gone:
            return
        first = not self._response.started
        try:
            await self._response.send(message)
        except ClientGoneError:
            self._gone = True
            return
        if first:
            self._exchange.route = route_pattern(self._scope)
        elif self._response.complete:
            self.end()

    def abandon(self) -> None:
        """Send nothing more: the exchange is another's now."""
        self._gone = True
        self._response.abandon()
        self.end()

    def take_back(self) -> bool:
        """Send nothing more of the response; return whether another one can be sent instead."""
        return self._response.abandon()

    def cut(self, error: ConnectionError) -> None:
        """Abort a response that cannot be completed."""
        self._response.abandon()
        self._exchange.abort()
        self.end(error)

    def end(self, error: Exception | None = None) -> None:
        """Let the exchange's server go on; the application may still run."""
        if not self.ended.done():
            if error is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(error)
        if self._over is not None:
            self._over.set()

    def _refuse(self, error: RequestError) -> None:
        self.refused = self._gone = True
        if self._response.started:
            self.cut(ClientGoneError(error.detail))
        else:
            self.end(error)

    async def _wait_over(self) -> None:
        if self._over is None:
            self._over = asyncio.Event()
            self._exchange.on_disconnect(self._over.set)
        await self._over.wait()

"""Writes the response of an ASGI application to an exchange.

The head waits for the first piece of the body, so that a complete response leaves in one write; where none
follows within the same turn of the loop, the head goes alone, as uvicorn sends it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from msctl.hosting.asgi.scope import Message
from msctl.hosting.response_fields import BODILESS, ResponseHead, response_head
from msctl.model.exchange import ClientGoneError, Exchange


class Response:
    """One response; `prefix` is that of its messages' types."""

    __slots__ = ("_exchange", "_handle", "_head", "_left", "_loop", "_prefix", "_sent", "complete")

    def __init__(self, exchange: Exchange, loop: asyncio.AbstractEventLoop, prefix: str) -> None:
        self._exchange = exchange
        self._loop = loop
        self._prefix = prefix
        self._head: ResponseHead | None = None
        self._sent = False
        """Whether the exchange has been given the head."""
        self._handle: asyncio.Handle | None = None
        self._left = 0
        """The bytes missing of the declared length."""
        self.complete = False

    @property
    def started(self) -> bool:
        return self._head is not None

    async def send(self, message: Message) -> None:
        """Take a message of the application. Raises RuntimeError and TypeError, for the application."""
        exchange = self._exchange
        if exchange.writing_paused:
            await exchange.drain()
        kind = message["type"]
        head = self._head
        if head is None:
            if kind != self._prefix + ".start":
                raise RuntimeError(f"Expected ASGI message '{self._prefix}.start', but got '{kind}'.")
            self._start(message)
        elif self.complete:
            raise RuntimeError(f"Unexpected ASGI message '{kind}' sent, after response already completed.")
        elif kind != self._prefix + ".body":
            raise RuntimeError(f"Expected ASGI message '{self._prefix}.body', but got '{kind}'.")
        else:
            self._body(head, _bytes(message.get("body", b"")), bool(message.get("more_body", False)))

    def abandon(self) -> bool:
        """Send nothing more; return whether the exchange can still be answered by another response."""
        if self._handle is not None:
            self._handle.cancel()
        return not self._sent

    def _start(self, message: Message) -> None:
        method = self._exchange.head.method
        head = response_head(message["status"], message.get("headers", ()), method=method)
        self._head = head
        self._left = head.length or 0
        if head.close:
            self._exchange.keep_alive = False
        self._handle = self._loop.call_soon(self._send_head_alone, head)

    def _send_head(self, head: ResponseHead, length: int | None) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if not self._sent:
            self._sent = True
            self._exchange.start(head.status, head.reason, head.fields, length=length)

    def _send_head_alone(self, head: ResponseHead) -> None:
        try:
            self._send_head(head, head.length)
            self._exchange.flush()
        except ClientGoneError:
            pass  # the application learns it from its next message

    def _body(self, head: ResponseHead, body: bytes, more: bool) -> None:
        exchange = self._exchange
        if more and not body:
            return
        bodiless = exchange.head.method == "HEAD" or head.status in BODILESS
        if not bodiless and head.length is not None:
            left = self._left - len(body)
            if left < 0:
                raise RuntimeError("Response content longer than Content-Length")
            if left and not more:
                raise RuntimeError("Response content shorter than Content-Length")
            self._left = left
        if more:
            self._send_head(head, head.length)
            if not bodiless:
                exchange.write(body)
            return
        self.complete = True
        if self._sent or bodiless:
            known = len(body) or None if exchange.head.method == "HEAD" else None
            self._send_head(head, known if head.length is None else head.length)
            exchange.finish(b"" if bodiless else body)
            return
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._sent = True
        exchange.respond(head.status, head.reason, head.fields, body)


def _bytes(body: Any) -> bytes:
    if type(body) is bytes:
        return body
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise TypeError(f"the body of an ASGI message must be bytes, not {type(body).__name__}")

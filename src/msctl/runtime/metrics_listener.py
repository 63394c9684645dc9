"""The metrics of a process at a port of their own: whoever reaches its service does not reach them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.utils import formatdate

from msctl.http.listener import Listener, Tenant
from msctl.model.address import Address
from msctl.model.exchange import Exchange

PATH = "/metrics"
CLOSE_S = 1.0

Page = Callable[[str], Awaitable[tuple[bytes, str]]]
"""Renders the metrics for an Accept header; returns the body and its content type."""


class MetricsListener:
    """Answers GET /metrics on an address."""

    def __init__(self, address: Address, page: Page) -> None:
        self._listener = Listener(address, None)
        self._tenant = Tenant("metrics", self._handle)
        self._page = page
        self._attached = False

    @property
    def address(self) -> Address:
        return self._listener.address

    def reserve(self) -> None:
        """Bind. Raises PortTakenError."""
        self._listener.reserve("metrics")

    async def open(self) -> None:
        await self._listener.attach(self._tenant)
        self._attached = True

    async def close(self) -> None:
        if not self._attached:
            self._listener.release()
            return
        self._listener.detach(self._tenant)
        await self._listener.finish(self._tenant.service, CLOSE_S)

    async def _handle(self, exchange: Exchange) -> None:
        head = exchange.head
        if head.target.partition("?")[0] != PATH:
            exchange.respond(404, b"Not Found", [], b"the metrics are at /metrics\n")
            return
        if head.method not in ("GET", "HEAD"):
            exchange.respond(405, b"Method Not Allowed", [(b"Allow", b"GET, HEAD")], b"")
            return
        accept = [value.decode("latin-1") for name, value in head.fields if name.lower() == b"accept"]
        body, content_type = await self._page(", ".join(accept))
        date = formatdate(usegmt=True).encode()
        exchange.respond(200, b"OK", [(b"Content-Type", content_type.encode()), (b"Date", date)], body)

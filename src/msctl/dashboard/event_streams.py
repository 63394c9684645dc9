"""Server-sent events (HTML Living Standard §9.2): several sources in one response, within a limit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec
from aiohttp import web

from msctl.aio import first_of
from msctl.dashboard.responses import SECURITY_HEADERS, error_document, json_response
from msctl.errors import MsctlError

log = logging.getLogger("msctl.dashboard")

MAX_STREAMS = 64
FLUSH_S = 0.2
PING_S = 10.0


class EventStreams:
    """All open streams of one dashboard; `close` ends them."""

    def __init__(self) -> None:
        self._open = 0
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Send a last event to every page and end its stream."""
        self._closing.set()

    async def serve(
        self,
        request: web.Request,
        sources: dict[str, AsyncIterator[bytes]],
        *work: Awaitable[None],
    ) -> web.StreamResponse:
        """Send an event per item of each named source until one of them, or of `work`, ends."""
        if self._open >= MAX_STREAMS:
            for one in work:
                asyncio.ensure_future(one).cancel()
            return json_response({"message": f"{MAX_STREAMS} pages are open already"}, status=503)
        self._open += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **SECURITY_HEADERS})
        response.headers["Cache-Control"] = "no-store"
        writing = asyncio.Lock()

        async def write(data: bytes) -> None:
            async with writing:
                await response.write(data)

        async def relay(name: str, source: AsyncIterator[bytes]) -> None:
            async for document in source:
                await write(b"event: %b\ndata: %b\n\n" % (name.encode(), document))
                await asyncio.sleep(FLUSH_S if name != "state" else 0)

        async def ping() -> None:
            while True:
                await asyncio.sleep(PING_S)
                await write(b": ping\n\n")

        tasks: list[asyncio.Task[None]] = [asyncio.ensure_future(one) for one in work]
        try:
            await response.prepare(request)
            relays = [relay(*source) for source in sources.items()]
            ends = await first_of(*tasks, *relays, ping(), self._wait_closing())
            await self._send_last([task for task in ends if not task.cancelled()], write)
        except ConnectionError:
            pass  # the page disconnected
        finally:
            self._open -= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return response

    async def _wait_closing(self) -> None:
        await self._closing.wait()

    async def _send_last(
        self, done: Sequence[asyncio.Future[None]], write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Send why the stream ends, unless the page disconnected."""
        for task in done:
            error = task.exception()
            if isinstance(error, MsctlError):
                await write(b"event: failed\ndata: %b\n\n" % msgspec.json.encode(error_document(error)))
            elif isinstance(error, ConnectionError):
                return
            elif error is not None:
                log.error("a stream of the dashboard failed", exc_info=error)
        if self._closing.is_set():
            await write(b"event: bye\ndata: {}\n\n")

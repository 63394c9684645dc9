"""A WSGI application as a hosted application: its requests run in a pool of threads.

Not through a2wsgi, whose `readline` ends early at a body that still arrives, which takes a body that was cut
off for a complete one, and whose threads wait for ever for a client that has left.
"""

from __future__ import annotations

import asyncio
from functools import partial

from msctl.clock import AsyncClock
from msctl.hosting.in_flight import InFlight
from msctl.hosting.service_log import ServiceLog
from msctl.hosting.standard_answers import respond_unavailable
from msctl.hosting.trusted_proxies import trusted_proxies
from msctl.hosting.wsgi.environ import Environ
from msctl.hosting.wsgi.request import Application, WsgiRequest
from msctl.hosting.wsgi.threads import DaemonThreads
from msctl.hosting.wsgi.websocket import WebSocketRelay
from msctl.model.current_context import current_context
from msctl.model.exchange import Exchange
from msctl.model.service_context import ServiceContext
from msctl.telemetry.logs.frames import serves
from msctl.telemetry.logs.hub import LogHub, current_service


class WsgiApp:
    """Serves exchanges with a WSGI application, `threads` of them at a time."""

    def __init__(
        self,
        application: Application,
        context: ServiceContext,
        *,
        threads: int,
        logs: LogHub,
        clock: AsyncClock,
    ) -> None:
        self._application = application
        self._context = context
        self._log = ServiceLog(logs, context.name)
        self._trusts = trusted_proxies(context.env)
        self._size = threads
        self._threads = DaemonThreads(f"wsgi-{context.instance}", threads)
        self._requests = InFlight(clock)
        self._relays: set[WebSocketRelay] = set()
        self._loop = asyncio.get_running_loop()
        self._draining = False

    async def startup(self) -> None:
        """Do nothing: WSGI has no lifespan."""

    async def handle(self, exchange: Exchange) -> None:
        """Serve an exchange; returns when its response is complete.

        Raises RequestError for a broken body, ConnectionError for a response that was aborted.
        """
        if self._draining:
            respond_unavailable(exchange, self._context.name)
            return
        extra: Environ = {"msctl.context": self._context}
        relay = await self._relay(exchange) if exchange.head.upgrade == "websocket" else None
        request = WsgiRequest(exchange, self._trusts, extra, self._loop, self._log, relay)
        job = self._threads.run(partial(self._run, request))
        job.add_done_callback(lambda job: request.expire() if job.cancelled() else None)
        self._requests.add_until_done(job)
        try:
            await request.ended
        except asyncio.CancelledError:
            request.abandon()
            job.cancel()
            if relay is not None:
                relay.abort()
            raise

    async def _relay(self, exchange: Exchange) -> WebSocketRelay:
        relay = WebSocketRelay(exchange, self._loop)
        await relay.open()
        self._relays.add(relay)
        relay.ended.add_done_callback(lambda _: self._relays.discard(relay))
        if len(self._relays) == self._size:
            self._log.line(f"WebSockets take all {self._size} threads: further requests wait", "warning")
        return relay

    async def drain(self, timeout: float) -> None:
        """Refuse new requests, close WebSockets; wait up to `timeout` seconds for those in flight."""
        self._draining = True
        for relay in list(self._relays):
            relay.go_away()
        await self._requests.drain(timeout)

    async def cleanup(self) -> None:
        self._draining = True
        self._threads.close()

    @serves
    def _run(self, request: WsgiRequest) -> None:
        msctl_service = self._context.name
        current_service.set(msctl_service)
        current_context.set(self._context)
        request.run(self._application)

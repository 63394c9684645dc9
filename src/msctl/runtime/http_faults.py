"""Carries out faults of requests: at the gateway, at service addresses, at the services' own listeners."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from msctl.clock import AsyncClock
from msctl.faults.active import ActiveFault
from msctl.faults.http import HttpEffect, HttpFaultPoint
from msctl.faults.spec import FaultSpec, When
from msctl.gateway.request.buffered import BufferedExchange
from msctl.http.date import http_date
from msctl.http.paced_exchange import PacedExchange
from msctl.http.refusals import phrase
from msctl.model.exchange import Exchange, Handler
from msctl.telemetry.tracing.requests import RequestObserver


class HttpFaultCarrier:
    """Sets the points at which gateways ask, and handles the requests of the services' own listeners."""

    def __init__(
        self,
        points: Sequence[HttpFaultPoint],
        clock: AsyncClock,
        observer: RequestObserver,
        notes: Callable[[FaultSpec], Sequence[str]],
    ) -> None:
        """`points` are those of the gateways."""
        self._points = points
        self._direct = HttpFaultPoint(routed=False)
        self._clock = clock
        self._observer = observer
        self.notes = notes

    async def begin(self, fault: ActiveFault) -> None:
        """Do nothing: `refresh` has set it."""

    async def end(self, fault: ActiveFault) -> None:
        """Do nothing: `refresh` has removed it."""

    def refresh(self, faults: Sequence[ActiveFault]) -> None:
        for point in (*self._points, self._direct):
            point.set(faults)
        self._observer.faulty = None if self._direct.active is None else self._handle

    async def _handle(self, service: str, instance: str, handle: Handler, exchange: Exchange) -> None:
        """Handle a request that came straight to a hosted service."""
        faults = self._direct.active
        fields = (*exchange.head.fields, *exchange.extra)
        effect = None if faults is None else faults.effect(None, service, instance, fields)
        if effect is None:
            await handle(exchange)
            return
        self._observer.faulted(effect.ids)
        if effect.delay:
            await self._clock.sleep(effect.delay)
        if effect.status is not None:
            if effect.when is When.AFTER:
                await handle(BufferedExchange(exchange, exchange.head, None))
            _abort(effect, exchange)
        elif effect.body is not None and exchange.head.method != "HEAD":
            paced = PacedExchange(exchange, effect.body, self._clock.sleep)
            sending = asyncio.create_task(paced.run())
            try:
                await handle(paced)
                await sending
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        else:
            await handle(exchange)


def _abort(effect: HttpEffect, exchange: Exchange) -> None:
    if not effect.status:
        exchange.abort()
        return
    text = f"The fault {', '.join(effect.ids)} aborted the request.\n".encode()
    fields = [
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Msctl-Fault", ", ".join(effect.ids).encode()),
        (b"Date", http_date()),
    ]
    exchange.respond(effect.status, phrase(effect.status), fields, text)

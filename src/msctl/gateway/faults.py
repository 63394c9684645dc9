"""Carries out the faults of one attempt at an instance, as if the instance or the way to it had them.

So retries, breakers and deadlines take them for what they imitate. A fault that is drawn is reported to the
observer, and named in the response that the gateway makes for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from msctl.clock import AsyncClock
from msctl.faults.http import BodyPace, HttpEffect, HttpFaultPoint, HttpFaults
from msctl.faults.spec import When
from msctl.gateway.message.headers import Field
from msctl.gateway.message.problems import CONTENT_TYPE, Problem
from msctl.gateway.observer import Observer
from msctl.gateway.policies.deadline import DeadlineError
from msctl.gateway.request.buffered import BufferedExchange
from msctl.gateway.request.gateway_exchange import GatewayExchange, is_event_stream
from msctl.gateway.upstream.errors import CLIENT_GONE, AttemptError, BrokenResponseError
from msctl.gateway.upstream.instances import UpstreamInstance
from msctl.http.date import http_date
from msctl.http.paced_exchange import CutError, PacedExchange
from msctl.http.refusals import phrase
from msctl.model.exchange import ClientGoneError, Exchange, RequestHead

FIELD = b"Msctl-Fault"
"""The response field that names the faults, where the gateway makes the response."""


class FaultyUpstreams:
    """Sends requests as `Upstream.send` does, with the faults of `point`."""

    def __init__(self, point: HttpFaultPoint, clock: AsyncClock, observer: Observer | None) -> None:
        self.point = point
        self._clock = clock
        self._observer = observer

    async def send(
        self, faults: HttpFaults, instance: UpstreamInstance, out: GatewayExchange, *, fresh: bool
    ) -> None:
        """Send one attempt. Raises as `Upstream.send` does."""
        route = out.settings.route.path if self.point.routed else None
        service, name = instance.endpoint.service, instance.name
        effect = faults.effect(route, service, name, out.head.fields)
        if effect is None:
            await instance.upstream.send(out, fresh=fresh)
            return
        if self._observer is not None:
            self._observer.faulted(effect.ids)
        if effect.delay:
            await self._delay(effect.delay, instance, out)
        if effect.status is not None:
            if effect.when is When.AFTER:
                await self._send_unheard(instance, out, fresh=fresh)
            self._abort(effect, instance, out)
        elif effect.body is not None and out.head.method != "HEAD":
            await self._send_paced(effect, effect.body, instance, out, fresh=fresh)
        else:
            await instance.upstream.send(out, fresh=fresh)

    async def _delay(self, seconds: float, instance: UpstreamInstance, out: GatewayExchange) -> None:
        """Wait as for a slow instance: the deadline and the client may end it earlier."""
        deadline, timeout = out.deadline, out.limits.response_timeout
        if out.disconnected:
            raise ClientGoneError("the client closed the connection")
        out.on_disconnect(partial(deadline.interrupt, CLIENT_GONE))
        try:
            with deadline:
                deadline.extend(timeout, "response")
                await self._clock.sleep(seconds)
        except DeadlineError as error:
            if error.stage == CLIENT_GONE:
                raise ClientGoneError("the client closed the connection") from error
            raise AttemptError(
                Problem(
                    504,
                    f"{instance.name} did not answer within {timeout:g} s.",
                    error="http_response_timeout",
                    service=instance.endpoint.service,
                    instance=instance.name,
                )
            ) from error
        finally:
            out.on_disconnect(None)

    async def _send_unheard(self, instance: UpstreamInstance, out: GatewayExchange, *, fresh: bool) -> None:
        """Let the instance do its work; what it answers is lost."""
        received = out.received
        out.received = _Unheard(received, out.head)
        try:
            await instance.upstream.send(out, fresh=fresh)
        except (ClientGoneError, BrokenResponseError):
            if received.disconnected:
                raise
        finally:
            out.received = received
            out.stream_at = 0.0

    @staticmethod
    def _abort(effect: HttpEffect, instance: UpstreamInstance, out: GatewayExchange) -> None:
        names = ", ".join(effect.ids)
        when = "before" if effect.when is When.BEFORE else "after"
        problem = Problem(
            effect.status or 502,
            f"The fault {names} aborted the request {when} it reached {instance.name}.",
            error=None if effect.status else "connection_terminated",
            service=instance.endpoint.service,
            instance=instance.name,
            fields=((FIELD, names.encode()),),
            extra={"fault": names},
        )
        if not effect.status:
            raise AttemptError(problem)
        fields: list[Field] = [
            (b"Content-Type", CONTENT_TYPE),
            (b"Cache-Control", b"no-store"),
            *problem.fields,
            (b"Date", http_date()),
        ]
        out.respond(problem.status, phrase(problem.status), fields, problem.body("msctl", out.request_id))

    async def _send_paced(
        self,
        effect: HttpEffect,
        pace: BodyPace,
        instance: UpstreamInstance,
        out: GatewayExchange,
        *,
        fresh: bool,
    ) -> None:
        received, deadline = out.received, out.deadline
        paced = PacedExchange(received, pace, self._clock.sleep, lambda: deadline.extend(deadline.allowance))
        out.received = paced
        sending = asyncio.create_task(paced.run())
        try:
            await instance.upstream.send(out, fresh=fresh)
            await sending
        except CutError as error:
            raise BrokenResponseError(f"the fault {', '.join(effect.ids)} cut the response off") from error
        except (BrokenResponseError, ClientGoneError) as error:
            # The handler noticed the cut connection before it had finished.
            if sending.done() and not sending.cancelled() and isinstance(sending.exception(), CutError):
                raise BrokenResponseError(
                    f"the fault {', '.join(effect.ids)} cut the response off"
                ) from error
            raise
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            out.received = received


class _Unheard(BufferedExchange):
    """Takes a response that nobody hears. The client's end of it ends a stream, too."""

    def __init__(self, outer: Exchange, head: RequestHead) -> None:
        super().__init__(outer, head, None)
        self._outer = outer
        self._gone: Callable[[], object] | None = None

    def on_disconnect(self, callback: Callable[[], object] | None) -> None:
        self._gone = callback
        self._outer.on_disconnect(callback)

    def start(self, status: int, reason: bytes, fields: Sequence[Field], *, length: int | None) -> None:
        super().start(status, reason, fields, length=length)
        if is_event_stream(fields):  # it would last for ever
            self.disconnected = True
            if self._gone is not None:
                asyncio.get_running_loop().call_soon(self._gone)

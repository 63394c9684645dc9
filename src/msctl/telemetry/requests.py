"""Around every request that this process takes: its trace, its measures, its line in the access log.

`Requests` wraps the handler that a listener or the gateway would call. It knows aiohttp's requests,
and nothing of listeners, of the gateway's rules or of how services run.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType

from aiohttp import web

from msctl.model import GATEWAY, BreakerState, SpanKind
from msctl.telemetry.context import TraceContext, begin, current_trace, new_id
from msctl.telemetry.durations import OTHER
from msctl.telemetry.logs import LogHub, current_service
from msctl.telemetry.messaging import Messages
from msctl.telemetry.metrics import Metrics
from msctl.telemetry.tracing import LONGEST_PATH, Ended, Tracer

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
Page = Callable[[str, str], Awaitable[tuple[bytes, str]]]
"""A service's own metrics, given its name and the request's Accept."""

ROUTE = web.RequestKey("msctl_route", str)
"""Where an application's host puts the pattern of the route that took the request."""
METRICS_PATH = "/metrics"
CLIENT_GONE = 499
MAX_ERROR_LINES = 10
"""Failed requests of one service in the access log within a second; what is beyond that is counted."""
_KNOWN_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"}
)


class Requests:
    """Observes the requests of one stack; also the gateway's Observer."""

    def __init__(
        self,
        metrics: Metrics,
        tracer: Tracer,
        logs: LogHub,
        *,
        sample: float = 0.0,
        page: Page | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`sample` is the share of the successful requests that the access log gets; it gets every
        failed one (5xx), as far as that is bearable."""
        self._metrics = metrics
        self._tracer = tracer
        self._access = AccessLog(logs, sample, chance)
        self._page = page
        self.sample = self._access.take
        self.request_started = metrics.request_started
        self.retried = metrics.retried
        self.rate_limited = metrics.rate_limited

    def direct(self, service: str, instance: str, handle: Handle) -> Handle:
        """The handler of a service's own listener."""

        async def observed(request: web.Request) -> web.StreamResponse:
            msctl_service = service
            context = begin(request.headers.getall("traceparent", _NONE))
            token = current_trace.set(context)
            self._metrics.service_started(msctl_service)
            began = time.perf_counter()
            status = CLIENT_GONE
            try:
                response = await handle(request)
                if response.status == 404 and request.rel_url.raw_path == METRICS_PATH:
                    response = await self._own_page(service, request, response)
                status = response.status
                return response
            except asyncio.CancelledError:
                raise
            except BaseException:
                status = 500
                raise
            finally:
                seconds = time.perf_counter() - began
                method = request.method if request.method in _KNOWN_METHODS else OTHER
                self._metrics.service_finished(service, request.get(ROUTE, ""), method, status, seconds)
                self._end(context, service, instance, request, method, status, seconds)
                current_trace.reset(token)

        _SERVING.add(observed.__code__)
        return observed

    def gateway(self, handle: Handle) -> Handle:
        """The gateway's handler, which tells its measures by itself."""

        async def observed(request: web.Request) -> web.StreamResponse:
            context = begin(request.headers.getall("traceparent", _NONE))
            token = current_trace.set(context)
            speaker = current_service.set(GATEWAY)
            began = time.perf_counter()
            status = CLIENT_GONE
            try:
                response = await handle(request)
                status = response.status
                return response
            finally:
                seconds = time.perf_counter() - began
                # What it returns may only stand for what it has sent.
                status = context.status or status
                method = request.method if request.method in _KNOWN_METHODS else OTHER
                self._record(context, GATEWAY, "", request, method, status, seconds)
                # Why it failed a request itself, the gateway has logged already.
                if status < 500 or context.answered:
                    self._access.request(GATEWAY, method, request.raw_path, status, seconds)
                current_service.reset(speaker)
                current_trace.reset(token)

        return observed

    def dispatched(self, service: str, instance: str, handle: Handle) -> Handle:
        """A service's handler as the gateway calls it in this process: the measures are the gateway's."""

        async def observed(request: web.Request) -> web.StreamResponse:
            msctl_service = service
            caller = current_trace.get()
            if caller is None:
                context = begin(request.headers.getall("traceparent", _NONE))
            else:
                context = caller.callee()
            token = current_trace.set(context)
            began = time.perf_counter()
            status = CLIENT_GONE
            try:
                response = await handle(request)
                status = response.status
                return response
            except asyncio.CancelledError:
                raise
            except BaseException:
                status = 500
                raise
            finally:
                method = request.method if request.method in _KNOWN_METHODS else OTHER
                seconds = time.perf_counter() - began
                self._record(context, msctl_service, instance, request, method, status, seconds)
                current_trace.reset(token)

        _SERVING.add(observed.__code__)
        return observed

    def messages(self, service: str) -> Messages:
        """What a service's messages are observed with."""
        return Messages(service, self._metrics, self._tracer)

    # --- the gateway's Observer, where it is more than measures -----------------------------------

    def request_finished(self, service: str, route: str, method: str, status: int, seconds: float) -> None:
        self._metrics.request_finished(service, route, method, status, seconds)
        context = current_trace.get()
        if context is not None:
            context.status = status

    def attempt_finished(self, service: str, instance: str, status: int | None, seconds: float) -> None:
        self._metrics.attempt_finished(service, instance, status, seconds)
        context = current_trace.get()
        if context is None:
            return
        context.answered = status is not None
        if context.inside and context.answered:
            return  # the instance's own span, in this process, says all that there is to say
        self._tracer.record(
            Ended(
                context.trace_id,
                new_id(),
                context.span_id,
                f"to {instance}",
                GATEWAY,
                SpanKind.CLIENT,
                time.time() - seconds,
                seconds,
                status is None or status >= 500,
                status,
                instance,
            )
        )

    def breaker_changed(self, service: str, instance: str, state: BreakerState) -> None:
        self._metrics.breaker_changed(service, instance, state)

    def target_ready(self, service: str, instance: str, ready: bool) -> None:
        self._metrics.target_ready(service, instance, ready)

    # --- helpers ----------------------------------------------------------------------------------

    def _end(
        self,
        context: TraceContext,
        service: str,
        instance: str,
        request: web.Request,
        method: str,
        status: int,
        seconds: float,
    ) -> None:
        self._record(context, service, instance, request, method, status, seconds)
        self._access.request(service, method, request.raw_path, status, seconds)

    def _record(
        self,
        context: TraceContext,
        service: str,
        instance: str,
        request: web.Request,
        method: str,
        status: int,
        seconds: float,
    ) -> None:
        self._tracer.record(
            Ended(
                context.trace_id,
                context.span_id,
                context.parent_id,
                (method, request.raw_path),
                service,
                SpanKind.SERVER,
                time.time() - seconds,
                seconds,
                status >= 500,
                status,
                instance,
            )
        )

    async def _own_page(
        self, service: str, request: web.Request, otherwise: web.StreamResponse
    ) -> web.StreamResponse:
        """A service's metrics where it has no page of that name itself."""
        if self._page is None or request.method not in ("GET", "HEAD") or otherwise.prepared:
            return otherwise
        request[ROUTE] = METRICS_PATH
        body, content_type = await self._page(service, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})


class AccessLog:
    """One line for a request; not for every one, so that it cannot drown what services say."""

    def __init__(self, logs: LogHub, sample: float, chance: Callable[[], float]) -> None:
        self._logs = logs
        self.take(sample)
        self._chance = chance
        self._errors: dict[str, tuple[int, int]] = {}

    def take(self, sample: float) -> None:
        """From now on this share of the successful requests."""
        self._sample = sample

    def request(self, service: str, method: str, path: str, status: int, seconds: float) -> None:
        """A request has ended; called while its trace is the current one."""
        left_out = 0
        if status >= 500:
            second = int(time.monotonic())
            since, count = self._errors.get(service, (second, 0))
            if since != second:
                left_out = max(0, count - MAX_ERROR_LINES)
                since, count = second, 0
            self._errors[service] = (since, count + 1)
            if count >= MAX_ERROR_LINES:
                return
        elif not self._sample or self._chance() >= self._sample:
            return
        path = path.partition("?")[0][:LONGEST_PATH]
        text = f"{method} {path} {status} in {seconds * 1000:.1f} ms"
        if left_out:
            text += f" ({left_out} failed requests before it are not listed)"
        self._logs.append(
            service,
            text,
            "error" if status >= 500 else "info",
            fields={"method": method, "status": status, "seconds": round(seconds, 6)},
        )


def service_of(frame: FrameType) -> str | None:
    """The service whose request this frame handles, if it is one of ours around a handler."""
    return frame.f_locals.get("msctl_service") if frame.f_code in _SERVING else None


_NONE: Sequence[str] = ()
_SERVING: set[object] = set()
"""The code of the wrappers above: one object for each place where one is written, however many are made."""

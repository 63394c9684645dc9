"""Observes the requests of this process: spans, metrics and the access log.

`RequestObserver` wraps the handlers of the services' own listeners and implements the gateway's Observer.
It knows neither listeners nor the gateway's policies.

Finished requests go into a `Batch`; `flush` turns them into metrics and kept spans.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate
from time import monotonic, time
from typing import NamedTuple

from msctl.model.exchange import Exchange, Field, Handler, RequestError, RequestHead
from msctl.model.snapshots import GATEWAY
from msctl.telemetry.logs.hub import LogHub, current_service
from msctl.telemetry.metrics.metrics import Metrics
from msctl.telemetry.trace_context import (
    TraceContext,
    begin,
    current_trace,
    parse,
)
from msctl.telemetry.tracing.access_log import FAILURE, AccessLog
from msctl.telemetry.tracing.batch import Batch
from msctl.telemetry.tracing.messaging import MessageObserver
from msctl.telemetry.tracing.not_found import NotFoundFilter
from msctl.telemetry.tracing.request_spans import ClientSpan, InternalSpan, ServerSpan, server_span
from msctl.telemetry.tracing.span import KNOWN_METHODS, OTHER, EndedSpan, HttpRequest, SpanGroup
from msctl.telemetry.tracing.tracer import Tracer

MetricsPage = Callable[[str, str], Awaitable[tuple[bytes, str]]]
"""Renders a service's metrics, given its name and the request's Accept header."""

FaultyHandling = Callable[[str, str, Handler, Exchange], Awaitable[None]]
"""Handles an exchange of a service and instance with their handler."""

METRICS_PATH = "/metrics"
SWITCHED = 101
"""The status of an upgraded connection, which lasts as long as it likes."""
CLIENT_GONE = 499


class DirectRequest(NamedTuple):
    """A finished request of a service's own listener.

    `ended` and `at` are as in ServerSpan.
    """

    context: TraceContext
    service: str
    instance: str
    request: HttpRequest
    status: int
    seconds: float
    ended: float
    at: float


class RequestObserver:
    """Observes the requests of one stack. Implements the gateway's Observer."""

    def __init__(
        self,
        metrics: Metrics,
        tracer: Tracer,
        logs: LogHub,
        *,
        sample: float = 0.0,
        page: MetricsPage | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`sample` is the share of successful requests that the access log shows. Failed ones (5xx) are
        always shown, up to `MAX_ERROR_LINES` a second."""
        self._metrics = metrics
        self._active = metrics.active
        self._tracer = tracer
        self._access = AccessLog(logs, sample, chance)
        self._page = page
        self._batch: Batch[DirectRequest | ServerSpan] = Batch(self._process)
        self.flush = metrics.flush = tracer.flush = self._batch.flush
        self.set_sample = self._access.set_sample
        self.refused = metrics.request_refused
        self.retried = metrics.retried
        self.stream_finished = metrics.stream_finished
        self.rate_limited = metrics.rate_limited
        self.breaker_changed = metrics.breaker_changed
        self.target_ready = metrics.target_ready
        self.faulty: FaultyHandling | None = None
        """Handles the requests of the services' own listeners while a fault concerns them."""

    def direct(self, service: str, instance: str, handle: Handler) -> Handler:
        """Wrap the handler of a service's own listener."""

        async def observed(exchange: Exchange) -> None:
            head = exchange.head
            parents = _values(exchange, b"traceparent")
            context = begin([value.decode("latin-1") for value in parents])
            token = current_trace.set(context)
            self._metrics.service_started(service)
            status = FAILURE
            began = monotonic()
            try:
                if self._page is not None and _asks_for_metrics(head):
                    await self._serve_metrics(self._page, service, handle, exchange)
                elif self.faulty is None:
                    await handle(exchange)
                else:
                    await self.faulty(service, instance, handle, exchange)
                status = exchange.status
            except RequestError as error:
                status = error.status
                raise
            except asyncio.CancelledError:
                status = CLIENT_GONE
                raise
            except ConnectionError:
                status = CLIENT_GONE if exchange.disconnected else FAILURE
                raise
            finally:
                ended = monotonic()
                seconds = ended - began + exchange.head_seconds
                request = HttpRequest(
                    head.method,
                    head.target,
                    exchange.route,
                    exchange.scheme,
                    exchange.server,
                    exchange.client[0],
                    head.version,
                )
                self._batch.add(
                    DirectRequest(context, service, instance, request, status, seconds, ended, time())
                )
                self._access.request(service, head.method, head.target, status, seconds)
                current_trace.reset(token)

        return observed

    def messages(self, service: str) -> MessageObserver:
        """The observer of a service's messages."""
        return MessageObserver(service, self._metrics, self._tracer)

    # --- the gateway's Observer, beyond metrics ---------------------------------------------------

    def request_started(self, exchange: Exchange, traceparents: Sequence[str]) -> ServerSpan:
        self._active[GATEWAY] += 1
        given = parse(traceparents[0]) if len(traceparents) == 1 else None
        span = ServerSpan(self, given, exchange)
        # Not reset at the end: the server runs each request in a context of its own.
        current_trace.set(span)
        current_service.set(GATEWAY)
        return span

    def keep(self, span: ServerSpan) -> None:
        """Keep a finished request of the gateway."""
        self._batch.add(span)
        status = span.status
        if status < FAILURE:
            if self._access.sample:
                self._access.request(GATEWAY, span.method, span.target, status, span.seconds)
        elif span.attempts and span.attempts[-1][2] is not None:
            # Otherwise the gateway itself failed the request and has logged the reason.
            self._access.request(GATEWAY, span.method, span.target, status, span.seconds)

    def faulted(self, faults: Sequence[str]) -> None:
        """Mark the span that is active now, and the request's at the gateway, as touched by these faults."""
        context = current_trace.get()
        while context is not None:
            self._tracer.marks.add(context.trace_id, context.span_id, faults)
            context = context.caller if isinstance(context, (InternalSpan, ClientSpan)) else None

    def message_faulted(self, faults: Sequence[str], traceparent: str) -> None:
        """Mark the span that sent a message as touched by these faults."""
        given = parse(traceparent)
        if given is not None and given[1] is not None:
            self._tracer.marks.add(given[0], given[1], faults)

    # --- helpers ----------------------------------------------------------------------------------

    def _process(self, finished: list[DirectRequest | ServerSpan]) -> None:
        """Record the metrics and keep the spans of finished requests, those with the same labels at once."""
        alike: dict[tuple[str, str, str, int], list[ServerSpan]] = {}
        groups: list[SpanGroup] = []
        suspects: list[SpanGroup] = []
        for request in finished:
            if type(request) is ServerSpan:
                labels = (request.service, request.route, request.method, request.status)
                known = alike.get(labels)
                if known is None:
                    alike[labels] = [request]
                else:
                    known.append(request)
                groups.append(request)
            elif type(request) is DirectRequest:
                span = self._direct_span(request)
                groups.append(span)
                suspects.append(span)
        for labels, spans in alike.items():
            if self._record_metrics(labels, spans):
                suspects += spans
        self._tracer.record_all(groups, suspects)

    def _record_metrics(self, labels: tuple[str, str, str, int], spans: list[ServerSpan]) -> bool:
        """Record the metrics of requests with the same labels; return whether one of them may be notable."""
        metrics = self._metrics
        service, route, method, status = labels
        label = method if method in KNOWN_METHODS else OTHER  # clients cannot create label values
        seconds = [span.seconds for span in spans]
        metrics.requests_finished(service, route, label, status, seconds, [span.ended for span in spans])
        attempts: dict[tuple[str, int | None], list[float]] = {}
        for asked, _, answer, duration, _, _ in [attempt for span in spans for attempt in span.attempts]:
            outcome = (asked, answer)
            durations = attempts.get(outcome)
            if durations is None:
                attempts[outcome] = [duration]
            else:
                durations.append(duration)
        failed = status >= FAILURE
        for (asked, answer), durations in attempts.items():
            metrics.attempts_finished(asked, label, answer, durations)
            failed = failed or answer is None or answer >= FAILURE
        return failed or max(seconds) >= self._tracer.slow_s

    def _direct_span(self, request: DirectRequest) -> EndedSpan:
        """Record the metrics of a request of a service's own listener; return its span."""
        context, service, instance, http, status, seconds, ended, at = request
        label = http.method if http.method in KNOWN_METHODS else OTHER
        if status == SWITCHED:
            self._metrics.stream_finished(service, http.route, seconds)
            seconds = 0.0
        self._metrics.service_finished(service, http.route, label, status, seconds, ended)
        return server_span(context, http, service, instance, status, seconds, at)

    @staticmethod
    async def _serve_metrics(page: MetricsPage, service: str, handle: Handler, exchange: Exchange) -> None:
        """Serve the metrics of a service that has no metrics page of its own."""
        filtered = NotFoundFilter(exchange)
        await handle(filtered)
        if not filtered.not_found:
            return
        exchange.route = METRICS_PATH
        accept = [value.decode("latin-1") for value in _values(exchange, b"accept")]
        body, content_type = await page(service, ", ".join(accept))
        fields = [(b"Content-Type", content_type.encode()), (b"Date", formatdate(usegmt=True).encode())]
        exchange.respond(200, b"OK", fields, body)


def _asks_for_metrics(head: RequestHead) -> bool:
    return head.target.partition("?")[0] == METRICS_PATH and head.method in ("GET", "HEAD")


def _values(exchange: Exchange, name: bytes) -> list[bytes]:
    """Return the values of the field `name` (lower case)."""
    fields: Sequence[Field] = exchange.head.fields
    return [value for key, value in (*fields, *exchange.extra) if key.lower() == name]

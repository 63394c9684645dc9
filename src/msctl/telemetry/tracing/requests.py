"""Observes the requests of this process: spans, metrics and the access log.

`RequestObserver` wraps the handlers of the services' own listeners and implements the gateway's Observer.
It knows neither listeners nor the gateway's policies.

Spans of gateway requests are context objects (`ServerSpan`, `InternalSpan`, `ClientSpan`) with a reference
to their caller: an attempt replaces the current span and restores the caller when it finishes. That holds
because the gateway reports start and finish of an attempt in the same task. Finished requests go into a
`Batch`; `flush` turns them into metrics and kept spans.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from email.utils import formatdate
from time import monotonic, time
from typing import NamedTuple

from msctl.model.exchange import Exchange, Field, Handler, RequestError, RequestHead
from msctl.model.snapshots import GATEWAY
from msctl.model.traces import SpanEvent, SpanKind
from msctl.telemetry.logs.hub import LogHub, current_service
from msctl.telemetry.metrics.metrics import Metrics
from msctl.telemetry.trace_context import (
    SAMPLED,
    Given,
    TraceContext,
    begin,
    current_trace,
    new_id,
    new_trace_id,
    parse,
)
from msctl.telemetry.tracing.access_log import FAILURE, AccessLog
from msctl.telemetry.tracing.batch import Batch
from msctl.telemetry.tracing.messaging import MessageObserver
from msctl.telemetry.tracing.not_found import NotFoundFilter
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


class ServerSpan(TraceContext):
    """The span of a request at the gateway, and what is known about the request so far.

    `service` and `route` are empty if no route matched; `label` is the method as the metrics have it.
    `ended` is monotonic time, which stops while a machine is suspended; `at` is seconds since the epoch.
    """

    __slots__ = (
        "_observer",
        "at",
        "attempts",
        "client",
        "ended",
        "label",
        "method",
        "route",
        "scheme",
        "seconds",
        "server",
        "service",
        "status",
        "target",
        "version",
    )

    def __init__(self, observer: RequestObserver, given: Given | None, exchange: Exchange) -> None:
        # Not through super() or new_trace(): this constructor is the larger part of the cost of tracing.
        if given is None:
            self.trace_id = new_trace_id()
            self.parent_id = None
            self.flags = SAMPLED
        else:
            self.trace_id, self.parent_id, self.flags = given
        self.span_id = new_id()
        self._observer = observer
        head = exchange.head  # not kept, nor the exchange: they hold fields, and the connection
        self.method = head.method
        self.target = head.target
        self.version = head.version
        self.scheme = exchange.scheme
        self.server = exchange.server
        self.client = exchange.client
        self.attempts: tuple[Attempt, ...] = ()

    def hosted_attempt(self, method: str, target: str) -> InternalSpan:
        span = InternalSpan(self, method, target)
        current_trace.set(span)
        return span

    def remote_attempt(self, method: str, target: str, url: str) -> ClientSpan:
        span = ClientSpan(self, method, target, url)
        current_trace.set(span)
        return span

    def finished(self, service: str, route: str, method: str, status: int, seconds: float) -> None:
        self.service = service
        self.route = route
        self.label = method
        self.status = status
        self.seconds = seconds
        self.ended = monotonic()
        self.at = time()
        self._observer.keep(self)

    def notable(self, slow_s: float) -> bool:
        if self.status >= FAILURE or self.seconds >= slow_s:
            return True
        for attempt in self.attempts:  # not any(): this runs for every request
            status = attempt[2]
            if status is None or status >= FAILURE:
                return True
        return False

    def spans(self) -> Iterator[EndedSpan]:
        """Its own span and one per attempt: the service's span if it runs in this process."""
        request = HttpRequest(
            self.method, self.target, self.route, self.scheme, self.server, self.client[0], self.version
        )
        yield _server_span(self, request, GATEWAY, "", self.status, self.seconds, self.at)
        sent: dict[tuple[str, str], int] = {}
        for service, instance, status, seconds, at, span in self.attempts:
            if isinstance(span, InternalSpan):
                failed = FAILURE if status is None else status
                request = HttpRequest(span.method, span.target, span.route, self.scheme)
                yield _server_span(span, request, service, instance, failed, seconds, at)
            else:
                resent = sent[service, span.target] = sent.get((service, span.target), -1) + 1
                request = HttpRequest(span.method, span.target, url=span.url, resent=resent)
                yield _client_span(span, request, service, instance, status, seconds, at)


class InternalSpan(TraceContext):
    """The span of a service in this process that the gateway calls; `route` is the service's own pattern."""

    __slots__ = ("caller", "method", "route", "target")

    def __init__(self, caller: ServerSpan, method: str, target: str) -> None:
        self.trace_id = caller.trace_id
        self.parent_id = caller.span_id
        self.flags = caller.flags
        self.span_id = new_id()
        self.caller: ServerSpan | None = caller
        self.method = method
        self.target = target
        self.route = ""

    def finished(
        self, service: str, instance: str, status: int | None, seconds: float, route: str = ""
    ) -> None:
        self.route = route
        caller, self.caller = self.caller, None  # the caller keeps it: a cycle would be left to the collector
        if caller is not None:
            caller.attempts += ((service, instance, status, seconds, time(), self),)


class ClientSpan(TraceContext):
    """The span of the gateway's attempt at an instance in another process, which listens at `url`."""

    __slots__ = ("caller", "method", "target", "url")

    def __init__(self, caller: ServerSpan, method: str, target: str, url: str) -> None:
        super().__init__(caller.trace_id, caller.span_id, caller.flags)
        self.caller: ServerSpan | None = caller
        self.method = method
        self.target = target
        self.url = url

    def finished(
        self,
        service: str,
        instance: str,
        status: int | None,
        seconds: float,
        route: str = "",  # noqa: ARG002 - the instance's own span has it
    ) -> None:
        caller, self.caller = self.caller, None
        if caller is not None:
            caller.attempts += ((service, instance, status, seconds, time(), self),)


Attempt = tuple[str, str, int | None, float, float, InternalSpan | ClientSpan]
"""An attempt of the gateway: service, instance, status (None without a response), seconds, when it ended
(seconds since the epoch), and the service's span if it runs in this process, else the attempt's own."""


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
        metrics = self._metrics
        groups: list[SpanGroup] = []
        requests: dict[tuple[str, str, str, int], tuple[list[float], list[float]]] = {}
        attempts: dict[tuple[str, str, int | None], list[float]] = {}
        for request in finished:
            if type(request) is ServerSpan:
                key = (request.service, request.route, request.label, request.status)
                found = requests.get(key)
                if found is None:
                    found = requests[key] = ([], [])
                found[0].append(request.seconds)
                found[1].append(request.ended)
                for attempt in request.attempts:
                    outcome = (attempt[0], request.label, attempt[2])
                    durations = attempts.get(outcome)
                    if durations is None:
                        durations = attempts[outcome] = []
                    durations.append(attempt[3])
                groups.append(request)
            elif type(request) is DirectRequest:
                context, service, instance, http, status, seconds, ended, at = request
                label = http.method if http.method in KNOWN_METHODS else OTHER
                if status == SWITCHED:
                    metrics.stream_finished(service, http.route, seconds)
                    seconds = 0.0
                metrics.service_finished(service, http.route, label, status, seconds, ended)
                groups.append(_server_span(context, http, service, instance, status, seconds, at))
        for labels, times in requests.items():
            metrics.requests_finished(*labels, *times)
        for outcome, durations in attempts.items():
            metrics.attempts_finished(*outcome, durations)
        self._tracer.record_all(groups)

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


def _server_span(
    context: TraceContext,
    request: HttpRequest,
    service: str,
    instance: str,
    status: int,
    seconds: float,
    at: float,
) -> EndedSpan:
    return EndedSpan(
        context.trace_id,
        context.span_id,
        context.parent_id,
        request,
        service,
        SpanKind.SERVER,
        at - seconds,
        seconds,
        status >= FAILURE,
        status,
        instance,
        events=_raised(context),
    )


def _raised(context: TraceContext) -> tuple[SpanEvent, ...]:
    """The exception that was recorded in a span, if any."""
    try:
        return (context.exception,)
    except AttributeError:
        return ()


def _client_span(
    context: ClientSpan,
    request: HttpRequest,
    service: str,
    instance: str,
    status: int | None,
    seconds: float,
    at: float,
) -> EndedSpan:
    return EndedSpan(
        context.trace_id,
        context.span_id,
        context.parent_id,
        request,
        GATEWAY,
        SpanKind.CLIENT,
        at - seconds,
        seconds,
        status is None or status >= FAILURE,  # not 4xx: the gateway passes it on to who is at fault
        status,
        instance,
        {"service.peer.name": service},
    )

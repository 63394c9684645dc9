"""The spans of a request at the gateway: its own, and one for each attempt at an instance.

They are context objects, active while the request or the attempt is handled: what the handler's code sends
belongs to them. An attempt's span takes the place of the request's in the task that handles the request.
They keep no exchange, which holds fields and the connection; what they are read as is made when they are read
(`spans`), because most never are.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic, time
from typing import Protocol

from msctl.model.exchange import Exchange
from msctl.model.snapshots import GATEWAY
from msctl.model.traces import SpanEvent, SpanKind
from msctl.telemetry.trace_context import SAMPLED, Given, TraceContext, current_trace, new_id, new_trace_id
from msctl.telemetry.tracing.access_log import FAILURE
from msctl.telemetry.tracing.span import EndedSpan, HttpRequest


class SpanKeeper(Protocol):
    """Who keeps finished requests."""

    def keep(self, span: ServerSpan) -> None: ...


class ServerSpan(TraceContext):
    """The span of a request at the gateway, and what is known about the request so far.

    `service` and `route` are empty if no route matched.
    `ended` is monotonic time, which stops while a machine is suspended; `at` is seconds since the epoch.
    """

    __slots__ = (
        "_keeper",
        "at",
        "attempts",
        "client",
        "ended",
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

    def __init__(self, keeper: SpanKeeper, given: Given | None, exchange: Exchange) -> None:
        # Not through super() or new_trace(): this constructor is the larger part of the cost of tracing.
        if given is None:
            self.trace_id = new_trace_id()
            self.parent_id = None
            self.flags = SAMPLED
        else:
            self.trace_id, self.parent_id, self.flags = given
        self.span_id = new_id()
        self._keeper = keeper
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

    def finished(self, service: str, route: str, status: int, seconds: float) -> None:
        self.service = service
        self.route = route
        self.status = status
        self.seconds = seconds
        self.ended = monotonic()
        self.at = time()
        self._keeper.keep(self)

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
        yield server_span(self, request, GATEWAY, "", self.status, self.seconds, self.at)
        sent: dict[tuple[str, str], int] = {}
        for service, instance, status, seconds, at, span in self.attempts:
            if isinstance(span, InternalSpan):
                failed = FAILURE if status is None else status
                request = HttpRequest(span.method, span.target, span.route, self.scheme)
                yield server_span(span, request, service, instance, failed, seconds, at)
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


def server_span(
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

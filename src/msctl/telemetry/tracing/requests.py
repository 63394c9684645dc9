"""Around every request that this process takes: its trace, its measures, its line in the access log.

`Requests` wraps what a service's own listener calls, and is told by the gateway of what passes there. It
knows aiohttp's requests, and nothing of listeners, of the gateway's rules or of how services run.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextvars import Token
from time import monotonic, time
from typing import NamedTuple

from aiohttp import web

from msctl.model.snapshots import GATEWAY, SpanKind
from msctl.telemetry.logs.hub import LogHub, current_service
from msctl.telemetry.metrics.histogram import OTHER
from msctl.telemetry.metrics.metrics import Metrics
from msctl.telemetry.trace_context import SAMPLED, Given, TraceContext, begin, current_trace, new_id, parse
from msctl.telemetry.tracing.batch import Journal
from msctl.telemetry.tracing.messaging import Messages
from msctl.telemetry.tracing.tracer import LONGEST_PATH, Ended, Tracer

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
Page = Callable[[str, str], Awaitable[tuple[bytes, str]]]
"""A service's own metrics, given its name and the request's Accept."""

ROUTE = web.RequestKey("msctl_route", str)
"""Where an application's host puts the pattern of the route that took the request."""
METRICS_PATH = "/metrics"
CLIENT_GONE = 499
FAILURE = 500
"""From this status on an answer counts as an error."""
MAX_ERROR_LINES = 10
"""Failed requests of one service in the access log within a second; what is beyond that is counted."""
_KNOWN_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"}
)


class Passing(TraceContext):
    """A request on its way through the gateway: its span, and what has become known of it so far.

    `service` and `route` are empty where no route took it; `label` is its method as it is measured.
    `ended` is of the monotonic clock, which stands still while a machine sleeps; `at` is of the other.
    """

    __slots__ = (
        "at",
        "attempts",
        "before",
        "ended",
        "label",
        "method",
        "route",
        "seconds",
        "service",
        "status",
        "target",
    )

    def __init__(self, given: Given | None, method: str, target: str) -> None:
        # Not through super(), nor with what it calls: this is the larger part of what tracing costs.
        if given is None:
            self.trace_id = new_id() + new_id()
            self.parent_id = None
            self.flags = SAMPLED
        else:
            self.trace_id, self.parent_id, self.flags = given
        self.span_id = new_id()
        self.method = method
        self.target = target
        self.attempts: tuple[Attempt, ...] = ()
        self.before: tuple[Token[TraceContext | None], Token[str]] | None = None

    def finish(self, service: str, route: str, label: str, status: int, seconds: float) -> None:
        self.service = service
        self.route = route
        self.label = label
        self.status = status
        self.seconds = seconds
        self.ended = monotonic()
        self.at = time()

    def notable(self, slow_s: float) -> bool:
        return (
            self.status >= FAILURE
            or self.seconds >= slow_s
            or any(status is None or status >= FAILURE for _, _, status, *_ in self.attempts)
        )

    def spans(self) -> Iterator[Ended]:
        """Its own, and one for each attempt: the instance's where that is in this process."""
        asked = (self.method, self.target)
        yield _server(self, asked, GATEWAY, "", self.status, self.seconds, self.at)
        for service, instance, status, seconds, at, span in self.attempts:
            if isinstance(span, Called):
                failed = FAILURE if status is None else status
                asked = (span.method, span.target)
                yield _server(span, asked, service, instance, failed, seconds, at)
            else:
                yield _client(self, span, instance, status, seconds, at)


class Called(TraceContext):
    """The span of a service of this process that the gateway asks."""

    __slots__ = ("caller", "method", "target")

    def __init__(self, caller: TraceContext, method: str, target: str) -> None:
        self.trace_id = caller.trace_id
        self.parent_id = caller.span_id
        self.flags = caller.flags
        self.span_id = new_id()
        self.caller = caller
        self.method = method
        self.target = target


class Leaving(TraceContext):
    """The span of the gateway's attempt at an instance elsewhere, which goes on with it."""

    __slots__ = ("caller",)

    def __init__(self, caller: TraceContext) -> None:
        super().__init__(caller.trace_id, caller.span_id, caller.flags)
        self.caller = caller


Attempt = tuple[str, str, int | None, float, float, Called | str]
"""One attempt of the gateway: service, instance, status (None where it gave no response), seconds, when
it ended (since the epoch), and its span: the instance's own where that is in this process, else the id
of the attempt's."""


class Served(NamedTuple):
    """A request that a service's own listener took, and that has ended; `route` is its pattern.

    `ended` and `at` are as those of Passing.
    """

    context: TraceContext
    service: str
    instance: str
    method: str
    target: str
    status: int
    seconds: float
    ended: float
    at: float
    route: str


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
        self._active = metrics.active
        self._tracer = tracer
        self._access = AccessLog(logs, sample, chance)
        self._page = page
        self._journal: Journal[Served | Passing] = Journal(self._account)
        self.settle = metrics.settle = tracer.settle = self._journal.settle
        self.sample = self._access.take
        self.retried = metrics.retried
        self.rate_limited = metrics.rate_limited
        self.breaker_changed = metrics.breaker_changed
        self.target_ready = metrics.target_ready

    def direct(self, service: str, instance: str, handle: Handle) -> Handle:
        """The handler of a service's own listener."""

        async def observed(request: web.Request) -> web.StreamResponse:
            context = begin(request.headers.getall("traceparent", _NONE))
            token = current_trace.set(context)
            self._metrics.service_started(service)
            status = CLIENT_GONE
            began = monotonic()
            try:
                response = await handle(request)
                if response.status == 404 and request.rel_url.raw_path == METRICS_PATH:
                    response = await self._own_page(service, request, response)
                status = response.status
                return response
            except asyncio.CancelledError:
                raise
            except BaseException:
                status = FAILURE
                raise
            finally:
                ended = monotonic()
                method, target, route = request.method, request.raw_path, request.get(ROUTE, "")
                seconds = ended - began
                self._journal.note(
                    Served(context, service, instance, method, target, status, seconds, ended, time(), route)
                )
                self._access.request(service, method, target, status, seconds)
                current_trace.reset(token)

        return observed

    def messages(self, service: str) -> Messages:
        """What a service's messages are observed with."""
        return Messages(service, self._metrics, self._tracer)

    # --- the gateway's Observer, where it is more than measures -----------------------------------

    def request_started(self, method: str, target: str, traceparents: Sequence[str]) -> None:
        self._active[GATEWAY] += 1
        given = parse(traceparents[0]) if len(traceparents) == 1 else None
        passing = Passing(given, method, target)
        passing.before = current_trace.set(passing), current_service.set(GATEWAY)

    def request_finished(self, service: str, route: str, method: str, status: int, seconds: float) -> None:
        context = current_trace.get()
        if type(context) is not Passing:
            self._metrics.request_finished(service, route, method, status, seconds)
            return
        context.finish(service, route, method, status, seconds)
        self._journal.note(context)
        if status < FAILURE:
            if self._access.sample:
                self._access.request(GATEWAY, context.method, context.target, status, seconds)
        elif context.attempts and context.attempts[-1][2] is not None:
            # Otherwise the gateway failed it by itself, and has logged why.
            self._access.request(GATEWAY, context.method, context.target, status, seconds)
        if context.before is not None:
            # What comes after it in this context is another request (see gateway/eager.py).
            trace, logged = context.before
            context.before = None
            current_trace.reset(trace)
            current_service.reset(logged)

    def attempt_started(self, method: str, target: str) -> None:
        context = current_trace.get()
        if context is not None:
            current_trace.set(Called(context, method, target))

    def attempt_leaves(self) -> str:
        context = current_trace.get()
        if context is None:
            return ""
        leaving = Leaving(context)
        current_trace.set(leaving)
        return leaving.traceparent

    def attempt_finished(self, service: str, instance: str, status: int | None, seconds: float) -> None:
        context = current_trace.get()
        span: Called | str
        if type(context) is Called:
            span, context = context, context.caller
            current_trace.set(context)
        elif type(context) is Leaving:
            span, context = context.span_id, context.caller
            current_trace.set(context)
        else:
            span = new_id()
        if type(context) is not Passing:
            self._metrics.attempt_finished(service, instance, status, seconds)
            return
        context.attempts += ((service, instance, status, seconds, time(), span),)

    # --- helpers ----------------------------------------------------------------------------------

    def _account(self, notes: list[Served | Passing]) -> None:
        """Measure them, and keep their spans."""
        metrics, record = self._metrics, self._tracer.record
        for note in notes:
            if type(note) is Passing:
                metrics.request_finished(
                    note.service, note.route, note.label, note.status, note.seconds, note.ended
                )
                for service, instance, answered, seconds, *_ in note.attempts:
                    metrics.attempt_finished(service, instance, answered, seconds)
                record(note)
            elif type(note) is Served:
                context, service, instance, method, target, status, seconds, ended, at, route = note
                label = method if method in _KNOWN_METHODS else OTHER
                metrics.service_finished(service, route, label, status, seconds, ended)
                record(_server(context, (method, target), service, instance, status, seconds, at))

    async def _own_page(
        self, service: str, request: web.Request, otherwise: web.StreamResponse
    ) -> web.StreamResponse:
        """A service's metrics where it has no page of that name itself."""
        if self._page is None or request.method not in ("GET", "HEAD") or otherwise.prepared:
            return otherwise
        request[ROUTE] = METRICS_PATH
        body, content_type = await self._page(service, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})


def _server(
    context: TraceContext,
    asked: tuple[str, str],
    service: str,
    instance: str,
    status: int,
    seconds: float,
    at: float,
) -> Ended:
    return Ended(
        context.trace_id,
        context.span_id,
        context.parent_id,
        asked,
        service,
        SpanKind.SERVER,
        at - seconds,
        seconds,
        status >= FAILURE,
        status,
        instance,
    )


def _client(
    context: TraceContext, span_id: str, instance: str, status: int | None, seconds: float, at: float
) -> Ended:
    return Ended(
        context.trace_id,
        span_id,
        context.span_id,
        f"to {instance}",
        GATEWAY,
        SpanKind.CLIENT,
        at - seconds,
        seconds,
        status is None or status >= FAILURE,
        status,
        instance,
    )


class AccessLog:
    """One line for a request; not for every one, so that it cannot drown what services say."""

    def __init__(self, logs: LogHub, sample: float, chance: Callable[[], float]) -> None:
        self._logs = logs
        self.take(sample)
        self._chance = chance
        self._errors: dict[str, tuple[int, int]] = {}

    def take(self, sample: float) -> None:
        """From now on this share of the successful requests."""
        self.sample = sample

    def request(self, service: str, method: str, path: str, status: int, seconds: float) -> None:
        """A request has ended; called while its trace is the current one."""
        left_out = 0
        if status >= FAILURE:
            second = int(monotonic())
            since, count = self._errors.get(service, (second, 0))
            if since != second:
                left_out = max(0, count - MAX_ERROR_LINES)
                since, count = second, 0
            self._errors[service] = (since, count + 1)
            if count >= MAX_ERROR_LINES:
                return
        elif not self.sample or self._chance() >= self.sample:
            return
        path = path.partition("?")[0][:LONGEST_PATH]
        text = f"{method} {path} {status} in {seconds * 1000:.1f} ms"
        if left_out:
            text += f" ({left_out} failed requests before it are not listed)"
        self._logs.append(
            service,
            text,
            "error" if status >= FAILURE else "info",
            fields={"method": method, "status": status, "seconds": round(seconds, 6)},
        )


_NONE: Sequence[str] = ()

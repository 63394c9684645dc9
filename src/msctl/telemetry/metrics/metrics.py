"""The stack's metrics: OpenTelemetry's names in Prometheus form, in their own registry.

The gateway, the services' listeners and messaging record into them. The number of series does not depend
on clients: labels come from the configuration or from closed sets, and past `MAX_SERIES` a new combination
is counted under `_OTHER`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from msctl.model.runs import RouteStats
from msctl.model.snapshots import GATEWAY, BreakerState, MessageFlow, ServiceSnapshot
from msctl.telemetry.metrics.histogram import MAX_SERIES, ActiveRequests, Histogram, bounded, estimate
from msctl.telemetry.metrics.sliding_window import SlidingWindow, quantile

_BREAKER = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}
_FAILURE = 500
_MESSAGING = ("messaging_system", "messaging_operation_name", "messaging_destination_name")
_PUBLISH, _PROCESS = ("rabbitmq", "publish"), ("rabbitmq", "process")

M = TypeVar("M", Counter, Gauge)


class Metrics:
    """The metrics of one stack. Call its methods on the event loop; they never block or raise."""

    def __init__(
        self,
        *,
        loop_lag: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`loop_lag` returns the event loop's lag in seconds."""
        self._monotonic = monotonic
        self.flush: Callable[[], None] = lambda: None
        """Called before the metrics are read: records what is still batched."""
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._served = Histogram(
            "http_server_request_duration_seconds",
            "Requests answered by a service, through the gateway or on its own listener.",
            ("service", "http_request_method", "http_route", "http_response_status_code"),
            registry,
        )
        self._attempts = Histogram(
            "http_client_request_duration_seconds",
            "The gateway's attempts at a service's instances.",
            ("server_address", "http_request_method", "http_response_status_code", "error_type"),
            registry,
        )
        self._processed = Histogram(
            "messaging_process_duration_seconds",
            "Time a service took to process a message.",
            ("service", *_MESSAGING, "error_type"),
            registry,
        )
        self._streams = Histogram(
            "msctl_stream_duration_seconds",
            "How long event streams and upgraded connections lasted; the requests count until they began.",
            ("service", "http_route"),
            registry,
        )
        self.active = ActiveRequests(registry).counts
        """Requests in flight, by the service that accepted them."""
        self._retries = _Children(
            Counter(
                "msctl_gateway_retries",
                "Requests retried by the gateway.",
                ("upstream", "reason"),
                registry=registry,
            )
        )
        self._breaker = _Children(
            Gauge(
                "msctl_gateway_breaker_state",
                "The worst circuit breaker of the service's instances: 0 closed, 1 half-open, 2 open.",
                ("upstream",),
                registry=registry,
            )
        )
        self._ready = _Children(
            Gauge(
                "msctl_gateway_target_ready",
                "Whether the gateway sends requests to an instance.",
                ("upstream", "instance"),
                registry=registry,
            )
        )
        self._limited = _Children(
            Counter(
                "msctl_gateway_ratelimited",
                "Requests answered with 429.",
                ("http_route",),
                registry=registry,
            )
        )
        self._refused = _Children(
            Counter(
                "msctl_http_refused_requests",
                "What a listener answered before any service: malformed, too slow or too large heads.",
                ("service", "http_response_status_code"),
                registry=registry,
            )
        )
        self._sent = _Children(
            Counter(
                "messaging_client_sent_messages",
                "Messages published by a service.",
                ("service", *_MESSAGING, "error_type"),
                registry=registry,
            )
        )
        self._consumed = _Children(
            Counter(
                "messaging_client_consumed_messages",
                "Messages delivered to a service.",
                ("service", *_MESSAGING),
                registry=registry,
            )
        )
        lag = Gauge(
            "msctl_event_loop_lag_seconds",
            "Longest delay of the event loop within the last 10 to 20 seconds.",
            registry=registry,
        )
        if loop_lag is not None:
            lag.set_function(loop_lag)
        self._breakers: dict[str, dict[str, int]] = {}
        self._requests: dict[tuple[str, bool], SlidingWindow] = {}
        self._flows: dict[tuple[str, str, bool], SlidingWindow] = {}

    def request_refused(self, service: str, status: int) -> None:
        """The listener of `service` answered bytes that are no request."""
        self._refused.get((service, status)).inc()

    # --- requests on a service's own listener -----------------------------------------------------

    def service_started(self, service: str) -> None:
        self.active[service] += 1

    def service_finished(
        self, service: str, route: str, method: str, status: int, seconds: float, at: float | None = None
    ) -> None:
        """`route` is the pattern that matched (never the path), empty for none.

        `at` is the monotonic time when it ended; None for now.
        """
        self.active[service] -= 1
        self._served.observe((service, method, route, status), seconds)
        self._remember((service, False), status, seconds, at)

    # --- the gateway's Observer -------------------------------------------------------------------

    def requests_finished(
        self,
        service: str,
        route: str,
        method: str,
        status: int,
        seconds: Sequence[float],
        ended: Sequence[float],
    ) -> None:
        """Several requests that differ in their durations, and in when they ended (monotonic), alone."""
        self.active[GATEWAY] -= len(seconds)
        service = service or GATEWAY
        self._served.observe_all((service, method, route, status), seconds)
        self._window((service, True), ended[0]).record_all(ended, seconds, error=status >= _FAILURE)

    def attempts_finished(
        self, service: str, method: str, status: int | None, seconds: Sequence[float]
    ) -> None:
        """Several attempts with the same outcome."""
        labels = (service, method, "", "no_response") if status is None else (service, method, status, "")
        self._attempts.observe_all(labels, seconds)

    def stream_finished(self, service: str, route: str, seconds: float) -> None:
        """An event stream or an upgraded connection has ended."""
        self._streams.observe((service, route), seconds)

    def retried(self, service: str, reason: str) -> None:
        self._retries.get((service, reason)).inc()

    def breaker_changed(self, service: str, instance: str, state: BreakerState) -> None:
        states = self._breakers.setdefault(service, {})
        states[instance] = _BREAKER[state]
        self._breaker.get((service,)).set(max(states.values()))

    def target_ready(self, service: str, instance: str, ready: bool) -> None:
        self._ready.get((service, instance)).set(ready)
        states = self._breakers.setdefault(service, {})
        if ready:
            states[instance] = _BREAKER[BreakerState.CLOSED]
        else:
            states.pop(instance, None)
        self._breaker.get((service,)).set(max(states.values(), default=0))

    def rate_limited(self, route: str) -> None:
        self._limited.get((route,)).inc()

    def expect_limits(self, routes: Iterable[str]) -> None:
        """Start the counters of rate-limited routes at zero, before the first 429."""
        for route in routes:
            self._limited.get((route,))

    # --- messages ---------------------------------------------------------------------------------

    def message_sent(self, service: str, destination: str, error: str) -> None:
        """`error` is the exception's type; empty once the broker confirmed the message."""
        self._sent.get((service, *_PUBLISH, destination, error)).inc()
        self._flow(service, destination, sends=True)

    def message_processed(self, service: str, destination: str, error: str, seconds: float) -> None:
        self._consumed.get((service, *_PROCESS, destination)).inc()
        self._processed.observe((service, *_PROCESS, destination, error), seconds)
        self._flow(service, destination, sends=False)

    # --- for snapshots ----------------------------------------------------------------------------

    def annotate(self, services: Sequence[ServiceSnapshot]) -> tuple[ServiceSnapshot, ...]:
        """The services with their request rates, latencies and message rates."""
        self.flush()
        now = self._monotonic()
        flows: dict[str, list[MessageFlow]] = {}
        for (service, queue, sends), window in self._flows.items():
            if rate := window.rate(now):
                flows.setdefault(service, []).append(MessageFlow(queue, sends, rate))
        return tuple(self._annotated(service, flows.get(service.name, []), now) for service in services)

    def routes(self) -> tuple[RouteStats, ...]:
        """The requests of this run by service, method and route."""
        self.flush()
        counts: dict[tuple[str, str, str], list[int]] = {}
        errors: dict[tuple[str, str, str], int] = {}
        for (service, method, route, status), row in self._served.rows():
            key = str(service), str(method), str(route)
            counts[key] = list(map(sum, zip(counts[key], row, strict=True))) if key in counts else row
            if isinstance(status, int) and status >= _FAILURE:
                errors[key] = errors.get(key, 0) + sum(row)
        return tuple(
            RouteStats(
                *key, sum(row), errors.get(key, 0), *(estimate(row, share) for share in (0.5, 0.95, 0.99))
            )
            for key, row in counts.items()
        )

    def _annotated(self, service: ServiceSnapshot, flows: list[MessageFlow], now: float) -> ServiceSnapshot:
        windows = [
            window
            for (name, through_gateway), window in self._requests.items()
            if name == service.name or (through_gateway and service.name == GATEWAY)
        ]
        if not windows:
            return replace(service, messages=tuple(flows)) if flows else service
        return replace(
            service,
            requests_per_s=sum(window.rate(now) for window in windows),
            errors_per_s=sum(window.error_rate(now) for window in windows),
            p95_s=quantile(windows, now, 0.95),
            recent=tuple(map(sum, zip(*(window.recent(now) for window in windows), strict=True))),
            messages=tuple(flows),
        )

    def _remember(self, key: tuple[str, bool], status: int, seconds: float, at: float | None) -> None:
        """Record a request for `annotate`; `key` is the service and whether the gateway passed it."""
        now = self._monotonic() if at is None else at
        self._window(key, now).record(now, seconds, error=status >= _FAILURE)

    def _window(self, key: tuple[str, bool], now: float) -> SlidingWindow:
        window = self._requests.get(key)
        if window is None:
            window = self._requests[key] = SlidingWindow(now)
        return window

    def _flow(self, service: str, destination: str, *, sends: bool) -> None:
        now = self._monotonic()
        key = (service, destination, sends)
        window = self._flows.get(key)
        if window is None:
            if len(self._flows) >= MAX_SERIES:
                return
            window = self._flows[key] = SlidingWindow(now)
        window.record(now, 0.0)


class _Children(Generic[M]):
    """A cache of one metric's label children: a lookup costs a tenth of `labels()`.

    Bounded by `MAX_SERIES`; the children of a metric never change.
    """

    __slots__ = ("_known", "_metric")

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._known: dict[tuple[str | int, ...], M] = {}

    def get(self, labels: tuple[str | int, ...]) -> M:
        child = self._known.get(labels)
        if child is None:
            labels = bounded(labels, self._known)
            child = self._known.get(labels)
        if child is None:
            child = self._known[labels] = self._metric.labels(*labels)
        return child

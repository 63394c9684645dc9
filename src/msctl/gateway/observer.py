"""The interface through which the gateway reports requests to metrics and tracing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msctl.model.exchange import Exchange
from msctl.model.snapshots import BreakerState
from msctl.telemetry.tracing.span import KNOWN_METHODS, OTHER


class Observer(Protocol):
    """Called on the event loop; must not block or raise.

    `route` is the route's configured path, empty for an unmatched request; `method` is a known method
    or `_OTHER`, so clients cannot create label values. `seconds` are durations.
    """

    def request_started(self, exchange: Exchange, traceparents: Sequence[str]) -> None:
        """The calling task handles this request from now on; its later calls concern this request."""
        ...

    def request_finished(self, service: str, route: str, method: str, status: int, seconds: float) -> None:
        """`status` is 499 if the client closed the connection before the response."""
        ...

    def stream_finished(self, service: str, route: str, seconds: float) -> None:
        """The response was a stream that lasted so long; `request_finished` counts until it began."""
        ...

    def hosted_attempt_started(self, method: str, target: str) -> None:
        """An attempt at an instance in this process starts."""
        ...

    def remote_attempt_started(self, method: str, target: str, url: str) -> str:
        """An attempt at the instance at `url` starts; return its traceparent, empty for the request's own."""
        ...

    def attempt_finished(
        self, service: str, instance: str, status: int | None, seconds: float, route: str = ""
    ) -> None:
        """An attempt ended; `status` is None if there was no response, `route` the service's own pattern."""
        ...

    def retried(self, service: str, reason: str) -> None: ...

    def breaker_changed(self, service: str, instance: str, state: BreakerState) -> None: ...

    def target_ready(self, service: str, instance: str, ready: bool) -> None: ...

    def rate_limited(self, route: str) -> None: ...

    def faulted(self, faults: Sequence[str]) -> None:
        """These faults, by their ids, touch the attempt that has started."""
        ...


def method_label(method: str) -> str:
    return method if method in KNOWN_METHODS else OTHER

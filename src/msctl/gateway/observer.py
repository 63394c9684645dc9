"""The interface through which the gateway reports requests to metrics and tracing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msctl.model.exchange import Exchange
from msctl.model.snapshots import BreakerState


class AttemptSpan(Protocol):
    """What an observer knows of an attempt at an instance."""

    @property
    def traceparent(self) -> str:
        """What the instance is told, if it runs in another process."""
        ...

    def finished(
        self, service: str, instance: str, status: int | None, seconds: float, route: str = ""
    ) -> None:
        """The attempt ended; `status` is None if there was no response, `route` the service's own pattern."""
        ...


class RequestSpan(Protocol):
    """What an observer knows of a request. The calling task handles the request; it makes all calls."""

    @property
    def trace_id(self) -> str: ...

    @property
    def traceparent(self) -> str: ...

    def hosted_attempt(self, method: str, target: str) -> AttemptSpan:
        """An attempt at an instance in this process starts."""
        ...

    def remote_attempt(self, method: str, target: str, url: str) -> AttemptSpan:
        """An attempt at the instance at `url` starts."""
        ...

    def finished(self, service: str, route: str, status: int, seconds: float) -> None:
        """The response ended; `status` is 499 if the client closed the connection before it."""
        ...


class Observer(Protocol):
    """Called on the event loop; must not block or raise.

    `route` is the route's configured path, empty for an unmatched request. `seconds` are durations.
    """

    def request_started(self, exchange: Exchange, traceparents: Sequence[str]) -> RequestSpan:
        """The calling task handles this request from now on."""
        ...

    def stream_finished(self, service: str, route: str, seconds: float) -> None:
        """The response was a stream that lasted so long; the request's own duration ends when it began."""
        ...

    def retried(self, service: str, reason: str) -> None: ...

    def breaker_changed(self, service: str, instance: str, state: BreakerState) -> None: ...

    def target_ready(self, service: str, instance: str, ready: bool) -> None: ...

    def rate_limited(self, route: str) -> None: ...

    def faulted(self, faults: Sequence[str]) -> None:
        """These faults, by their ids, touch the attempt that has started."""
        ...

"""What the gateway tells whoever measures it. Knows nothing of how it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msctl.model.snapshots import BreakerState


class Observer(Protocol):
    """Called on the event loop; must not block or raise.

    `route` is the route's path as configured, empty for a request that no route took; `method` is
    one of the known ones or `_OTHER`: neither grows with what clients send. Seconds are durations.
    """

    def request_started(self, method: str, target: str, traceparents: Sequence[str]) -> None:
        """The task that calls works for this request from now on; all else it tells is about that."""
        ...

    def request_finished(self, service: str, route: str, method: str, status: int, seconds: float) -> None:
        """`status` is 499 where the client did not wait for its answer."""
        ...

    def attempt_started(self, method: str, target: str) -> None:
        """What an instance in this process is asked; told of no other."""
        ...

    def attempt_leaves(self) -> str:
        """The traceparent with which an instance elsewhere is asked; empty for the request's own."""
        ...

    def attempt_finished(self, service: str, instance: str, status: int | None, seconds: float) -> None:
        """One attempt at an instance; `status` is None where it gave no response."""
        ...

    def retried(self, service: str, reason: str) -> None: ...

    def breaker_changed(self, service: str, instance: str, state: BreakerState) -> None: ...

    def target_ready(self, service: str, instance: str, ready: bool) -> None: ...

    def rate_limited(self, route: str) -> None: ...


KNOWN_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"}
)


def method_label(method: str) -> str:
    return method if method in KNOWN_METHODS else "_OTHER"

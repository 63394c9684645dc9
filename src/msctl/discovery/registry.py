"""The register of instances that can take requests: the supervisor announces, the gateway looks up.

Knows nothing of how an instance runs: it is an address, or a handler in this process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One ready instance. `handler` takes a request in this process, without a network hop;
    where it is None, `base_url` (scheme://host:port, no path) is where to send it.
    `client_max_size` is the limit on bodies that the application behind `handler` was built with."""

    service: str
    instance: str
    base_url: str | None = None
    handler: Handler | None = None
    client_max_size: int = 1024**2


class Registry:
    """Which endpoints each service has now, and why it has none."""

    def __init__(self) -> None:
        self._endpoints: dict[str, tuple[Endpoint, ...]] = {}
        self._absences: dict[str, str] = {}

    def announce(self, endpoint: Endpoint) -> None:
        """Add an instance, or replace the one of the same name."""
        others = tuple(e for e in self.endpoints(endpoint.service) if e.instance != endpoint.instance)
        self._endpoints[endpoint.service] = (*others, endpoint)

    def withdraw(self, service: str, instance: str, reason: str) -> None:
        """Take an instance out; `reason` ("is stopped") completes a sentence that names the service."""
        left = tuple(e for e in self.endpoints(service) if e.instance != instance)
        self._endpoints[service] = left
        self._absences[service] = reason

    def endpoints(self, service: str) -> tuple[Endpoint, ...]:
        return self._endpoints.get(service, ())

    def absence(self, service: str) -> str:
        """Why `service` has no endpoint, as the end of a sentence: "is stopped"."""
        return self._absences.get(service, "is not started")

"""The registry of instances that can take requests: the supervisor writes it, the gateway reads it."""

from __future__ import annotations

from msctl.model.endpoint import Endpoint


class Registry:
    """The endpoints of each service, and the reason if there are none."""

    def __init__(self) -> None:
        self._endpoints: dict[str, tuple[Endpoint, ...]] = {}
        self._absences: dict[str, str] = {}

    def announce(self, endpoint: Endpoint) -> None:
        """Add an instance, or replace the one of the same name."""
        others = tuple(e for e in self.endpoints(endpoint.service) if e.instance != endpoint.instance)
        self._endpoints[endpoint.service] = (*others, endpoint)

    def withdraw(self, service: str, instance: str, reason: str) -> None:
        """Remove an instance; `reason` ("is stopped") completes a sentence about the service."""
        left = tuple(e for e in self.endpoints(service) if e.instance != instance)
        self._endpoints[service] = left
        self._absences[service] = reason

    def endpoints(self, service: str) -> tuple[Endpoint, ...]:
        """Return the endpoints of `service`: the same tuple until they change."""
        return self._endpoints.get(service, ())

    def absence(self, service: str) -> str:
        """Return why `service` has no endpoint, as the end of a sentence: "is stopped"."""
        return self._absences.get(service, "is not started")

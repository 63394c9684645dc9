"""The access log of this process's requests."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from msctl.telemetry.logs.hub import LogHub
from msctl.telemetry.tracing.span import LONGEST_PATH

FAILURE = 500
"""Responses with this status or above count as errors."""
MAX_ERROR_LINES = 10
"""Failed requests of one service in the access log per second; more are counted."""


class AccessLog:
    """The access log: sampled and limited, so that it does not crowd out the services' own lines."""

    def __init__(self, logs: LogHub, sample: float, chance: Callable[[], float]) -> None:
        self._logs = logs
        self.set_sample(sample)
        self._chance = chance
        self._errors: dict[str, tuple[int, int]] = {}

    def set_sample(self, sample: float) -> None:
        """Set the share of successful requests that is logged (0 to 1)."""
        self.sample = sample

    def request(self, service: str, method: str, path: str, status: int, seconds: float) -> None:
        """Log a finished request, or skip it; call it while its trace is current."""
        omitted = 0
        if status >= FAILURE:
            second = int(monotonic())
            since, count = self._errors.get(service, (second, 0))
            if since != second:
                omitted = max(0, count - MAX_ERROR_LINES)
                since, count = second, 0
            self._errors[service] = (since, count + 1)
            if count >= MAX_ERROR_LINES:
                return
        elif not self.sample or self._chance() >= self.sample:
            return
        path = path.partition("?")[0][:LONGEST_PATH]
        text = f"{method} {path} {status} in {seconds * 1000:.1f} ms"
        if omitted:
            text += f" ({omitted} earlier failed requests not shown)"
        self._logs.append(
            service,
            text,
            "error" if status >= FAILURE else "info",
            fields={"method": method, "status": status, "seconds": round(seconds, 6)},
        )

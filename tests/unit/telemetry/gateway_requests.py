"""Requests of the gateway, as its observer tells the metrics."""

from __future__ import annotations

from time import monotonic

from msctl.telemetry.metrics.metrics import Metrics


def request_finished(
    metrics: Metrics,
    service: str,
    route: str,
    method: str,
    status: int,
    seconds: float,
    ended: float | None = None,
) -> None:
    metrics.requests_finished(
        service, route, method, status, (seconds,), (monotonic() if ended is None else ended,)
    )

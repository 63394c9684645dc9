"""What is kept of a stack's runs, and how two of them differ. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RouteStats:
    """The requests that a service answered on one route during a run; latencies in seconds.

    `errors` counts responses with 5xx.
    """

    service: str
    method: str
    route: str
    requests: int
    errors: int
    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run, from `up` to `down`. `ended` is None while it runs, and if it was killed.

    `lasted_s` is then the time up to its last trace.
    """

    run: str
    began: float
    ended: float | None
    version: str
    requests: int
    errors: int
    traces: int
    lasted_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RunDetails:
    """A run with its routes, and the names of its traces with whether one of that name failed."""

    summary: RunSummary
    routes: tuple[RouteStats, ...]
    traces: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class RouteChange:
    """One route in both runs; None in the run that did not have it."""

    before: RouteStats | None
    after: RouteStats | None


@dataclass(frozen=True, slots=True)
class RunComparison:
    """How a later run differs: its routes beside the earlier ones, and names of traces that are new.

    `new_failures` fail in the later run, and did not in the earlier one.
    """

    before: RunSummary
    after: RunSummary
    routes: tuple[RouteChange, ...]
    new_traces: tuple[str, ...]
    new_failures: tuple[str, ...]


def compare(before: RunDetails, after: RunDetails) -> RunComparison:
    """Compare two runs; routes are sorted by service, path and method."""
    old, new = _by_route(before.routes), _by_route(after.routes)
    keys = sorted({*old, *new}, key=lambda key: (key[0], key[2], key[1]))
    known = {name for name, _ in before.traces}
    failed = {name for name, error in before.traces if error}
    return RunComparison(
        before.summary,
        after.summary,
        tuple(RouteChange(old.get(key), new.get(key)) for key in keys),
        tuple(sorted(name for name, _ in after.traces if name not in known)),
        tuple(sorted(name for name, error in after.traces if error and name not in failed)),
    )


def _by_route(routes: Iterable[RouteStats]) -> dict[tuple[str, str, str], RouteStats]:
    return {(route.service, route.method, route.route): route for route in routes}

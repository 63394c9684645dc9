"""When a service is probed, and what a result means. Pure.

Failures before the first success mean that it is still starting; those after it count in a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from msctl.backoff import exponential

FASTEST = 0.01
STARTING_EVERY = 0.1
READY_EVERY = 10.0
FAILING_EVERY = 1.0
PROBE_TIMEOUT = 1.0
FAILURE_THRESHOLD = 3


class ProbeOutcome(Enum):
    """The meaning of one probe result."""

    NOT_YET = auto()
    PASSED = auto()
    FAILED = auto()
    UNHEALTHY = auto()
    """It failed `FAILURE_THRESHOLD` times in a row."""
    LATE = auto()
    """It was not ready at its deadline."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds between probes once ready, and of one probe; failures in a row that mean unhealthy.

    `start_period` counts failures before the first success only after these seconds; None gives up at the
    deadline.
    """

    interval: float = READY_EVERY
    failing_interval: float = FAILING_EVERY
    timeout: float = PROBE_TIMEOUT
    retries: int = FAILURE_THRESHOLD
    start_period: float | None = None


DEFAULT_TIMING = Timing()


@dataclass(slots=True)
class Schedule:
    """Decides when to probe next and what a result means. `started_at` and all times are of one clock.

    Failures before the first success do not count until `deadline` seconds after the start. While nothing
    listens, the pause is a tenth of the elapsed time: a fast service is found ready fast, and a chain of
    services does not add up whole intervals. Once the service answers, it logs each probe, so the pause
    doubles up to the interval.
    """

    started_at: float
    deadline: float
    ready: bool = False
    failures: int = 0
    timing: Timing = DEFAULT_TIMING
    answers: int = 0
    """Failed probes before the first success that the service itself answered."""

    def pause(self, now: float) -> float:
        """Seconds until the next probe."""
        if self.ready:
            return self.timing.failing_interval if self.failures else self.timing.interval
        elapsed = now - self.started_at
        end = self.deadline if self.timing.start_period is None else self.timing.start_period
        if self.timing.start_period is not None and elapsed >= end:
            return self.timing.failing_interval
        if self.answers:
            pause = exponential(self.answers - 1, STARTING_EVERY, self.timing.interval)
        else:
            pause = min(STARTING_EVERY, max(FASTEST, elapsed / 10.0))
        return min(pause, max(0.0, end - elapsed))

    def answer(self, passed: bool, now: float, *, connected: bool = True) -> ProbeOutcome:
        """Record one result; `connected` says whether the service was there to answer."""
        if passed:
            self.ready = True
            self.failures = 0
            return ProbeOutcome.PASSED
        if not self.ready and connected:
            self.answers += 1
        if not self.ready and self.timing.start_period is not None:
            if now - self.started_at >= self.timing.start_period:
                self.failures += 1
            return ProbeOutcome.LATE if self.failures >= self.timing.retries else ProbeOutcome.NOT_YET
        if not self.ready:
            return ProbeOutcome.LATE if now - self.started_at >= self.deadline else ProbeOutcome.NOT_YET
        self.failures += 1
        return ProbeOutcome.UNHEALTHY if self.failures >= self.timing.retries else ProbeOutcome.FAILED

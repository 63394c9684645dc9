"""The circuit breaker of one instance: no requests to an instance that keeps failing. Pure.

States: closed → open after N consecutive failures; open → half-open after a time, when exactly one
probe is let through; half-open → closed if the probe succeeds, → open again, for longer, if it fails.
A cancelled request is neither success nor failure.
"""

from __future__ import annotations

from enum import Enum, auto

from msctl.clock import Clock
from msctl.model.snapshots import BreakerState


class AttemptResult(Enum):
    """The result of an attempt for its instance: NONE if it was cancelled or failed for other reasons."""

    NONE = auto()
    SUCCEEDED = auto()
    FAILED = auto()


class Breaker:
    """Asked before every attempt and updated after it.

    `failures` consecutive failures open it for `open_for` seconds times the number of times it opened
    without a success in between, at most `cap` seconds.
    """

    __slots__ = (
        "_cap",
        "_clock",
        "_consecutive_failures",
        "_failures",
        "_open_for",
        "_probing",
        "_times_opened",
        "_until",
        "is_idle",
    )

    def __init__(self, clock: Clock, *, failures: int = 5, open_for: float = 5.0, cap: float = 60.0) -> None:
        self._clock = clock
        self.reconfigure(failures, open_for, cap)
        self._consecutive_failures = 0
        self._times_opened = 0
        self._until: float | None = None
        self._probing = False
        self.is_idle = True
        """Whether it is closed with no failure since the last success: a success then changes nothing."""

    def reconfigure(self, failures: int, open_for: float, cap: float) -> None:
        """Apply new limits; the state is kept."""
        self._failures = failures
        self._open_for = open_for
        self._cap = cap

    @property
    def state(self) -> BreakerState:
        if self._until is None:
            return BreakerState.CLOSED
        if self._clock.monotonic() < self._until:
            return BreakerState.OPEN
        return BreakerState.HALF_OPEN

    @property
    def allows(self) -> bool:
        """Whether a request may be sent now."""
        return self._until is None or (not self._probing and self._clock.monotonic() >= self._until)

    @property
    def retry_in(self) -> float:
        """Seconds until a probe is let through; 0 if one may be sent now or is in flight."""
        return 0.0 if self._until is None else max(0.0, self._until - self._clock.monotonic())

    def on_start(self) -> None:
        """An attempt starts; while half-open it is the probe."""
        if self._until is not None:
            self._probing = True

    def record(self, result: AttemptResult) -> None:
        """An attempt ended with `result`."""
        if result is AttemptResult.SUCCEEDED:
            self.succeeded()
        elif result is AttemptResult.FAILED:
            self.failed()
        else:
            self.cancelled()

    def succeeded(self) -> None:
        self._consecutive_failures = 0
        if self._until is not None and self._probing:
            self._until = None
            self._times_opened = 0
            self._probing = False
        self.is_idle = self._until is None

    def failed(self) -> None:
        self.is_idle = False
        if self._until is not None:
            if self._probing:
                self._open()
            return
        self._consecutive_failures += 1
        if self._consecutive_failures >= self._failures:
            self._open()

    def cancelled(self) -> None:
        """Let another probe through: the attempt says nothing about the instance."""
        self._probing = False

    def _open(self) -> None:
        self._times_opened += 1
        self._consecutive_failures = 0
        self._probing = False
        self._until = self._clock.monotonic() + min(self._cap, self._open_for * self._times_opened)

"""The circuit breaker of one instance: stop asking what keeps failing, and try again carefully.

Pure: it takes a Clock. closed → open after N failures in a row; open → half-open when its time is
over, which lets exactly one probe through; half-open → closed when the probe succeeds, → open again,
for longer, when it fails. A cancelled request says nothing about the instance.
"""

from __future__ import annotations

from enum import Enum, auto

from msctl.clock import Clock
from msctl.model.snapshots import BreakerState


class Verdict(Enum):
    """What an attempt says about its instance: nothing where it was cancelled, or not its own to end."""

    NONE = auto()
    SUCCEEDED = auto()
    FAILED = auto()


class Breaker:
    """Asked before every attempt, told after it.

    `failures` in a row open it for `open_for` seconds times the openings in a row, at most `cap`.
    """

    __slots__ = (
        "_cap",
        "_clock",
        "_ejections",
        "_failures",
        "_in_row",
        "_open_for",
        "_probing",
        "_until",
        "pristine",
    )

    def __init__(self, clock: Clock, *, failures: int = 5, open_for: float = 5.0, cap: float = 60.0) -> None:
        self._clock = clock
        self.limit(failures, open_for, cap)
        self._in_row = 0
        self._ejections = 0
        self._until: float | None = None
        self._probing = False
        self.pristine = True
        """Whether there is nothing to remember: closed, and no failure since the last success."""

    def limit(self, failures: int, open_for: float, cap: float) -> None:
        """Go by these from now on; what it remembers stays."""
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
    def admits(self) -> bool:
        """Whether a request may be sent now; asking changes nothing."""
        return self._until is None or (not self._probing and self._clock.monotonic() >= self._until)

    @property
    def retry_in(self) -> float:
        """Seconds until a probe may go through; 0 when one may now or is on its way."""
        return 0.0 if self._until is None else max(0.0, self._until - self._clock.monotonic())

    def enter(self) -> None:
        """A request is being sent; while half open it is the probe."""
        if self._until is not None:
            self._probing = True

    def judge(self, verdict: Verdict) -> None:
        """An attempt is over."""
        if verdict is Verdict.SUCCEEDED:
            self.succeeded()
        elif verdict is Verdict.FAILED:
            self.failed()
        else:
            self.cancelled()

    def succeeded(self) -> None:
        self._in_row = 0
        if self._until is not None and self._probing:
            self._until = None
            self._ejections = 0
            self._probing = False
        self.pristine = self._until is None

    def failed(self) -> None:
        self.pristine = False
        if self._until is not None:
            if self._probing:
                self._open()
            return
        self._in_row += 1
        if self._in_row >= self._failures:
            self._open()

    def cancelled(self) -> None:
        """The request ended for a reason that is not the instance's: let another probe through."""
        self._probing = False

    def _open(self) -> None:
        self._ejections += 1
        self._in_row = 0
        self._probing = False
        self._until = self._clock.monotonic() + min(self._cap, self._open_for * self._ejections)

"""Slows down guesses of the password: each failure of an address makes it wait longer. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE_FAILURES = 3
"""Failures of an address without a delay: people mistype."""
MAX_DELAY_S = 60.0
MAX_ADDRESSES = 1024
"""Addresses remembered; above that, the one that failed least recently is forgotten."""


@dataclass(slots=True)
class _Failures:
    count: int = 0
    blocked_until: float = 0.0


class Throttle:
    """Counts consecutive failures by address. Times are of the given clock, in seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def delay(self, address: str) -> float:
        """Seconds until the address may try again; 0 if it may now."""
        failures = self._failures.get(address)
        return 0.0 if failures is None else max(0.0, failures.blocked_until - self._monotonic())

    def fail(self, address: str) -> int:
        """Record a failure; returns the number of consecutive ones."""
        failures = self._failures.setdefault(address, _Failures())
        self._failures.move_to_end(address)
        failures.count += 1
        if failures.count >= FREE_FAILURES:
            delay = min(2.0 ** min(failures.count - FREE_FAILURES, 16), MAX_DELAY_S)
            failures.blocked_until = self._monotonic() + delay
        while len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
        return failures.count

    def succeed(self, address: str) -> None:
        """Forget the failures of an address."""
        self._failures.pop(address, None)

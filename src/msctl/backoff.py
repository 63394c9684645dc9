"""Exponential backoff: how long to wait before the next try. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

FIRST_S = 0.5
CEILING_S = 30.0
JITTER = 0.2
"""Each wait is up to this share longer or shorter, so that many clients do not come back at once."""
_MAX_EXPONENT = 60


def exponential(attempt: int, first: float, ceiling: float) -> float:
    """Seconds before try `attempt` + 1 (from 0): `first`, doubled each time, at most `ceiling`."""
    return min(ceiling, first * 2.0 ** min(attempt, _MAX_EXPONENT))


@dataclass(slots=True)
class Backoff:
    """The waits after consecutive failures; times in seconds, `rand` gives numbers from 0 up to 1."""

    first: float = FIRST_S
    ceiling: float = CEILING_S
    jitter: float = JITTER
    rand: Callable[[], float] = random.random
    failures: int = 0
    """Consecutive failures counted so far."""

    def next(self) -> float:
        """Count one more failure and return how long to wait after it."""
        plain = exponential(self.failures, self.first, self.ceiling)
        self.failures += 1
        return plain * (1 + self.jitter * (2 * self.rand() - 1))

    def reset(self) -> None:
        self.failures = 0

"""How long to wait before trying again: doubling from half a second to thirty, with jitter. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

FIRST = 0.5
CEILING = 30.0
JITTER = 0.2
"""Each wait is up to this part longer or shorter, so that many clients do not come back at once."""


@dataclass(slots=True)
class Backoff:
    """`next` gives the seconds to wait before each attempt; `reset` starts again at `first`."""

    first: float = FIRST
    ceiling: float = CEILING
    jitter: float = JITTER
    rand: Callable[[], float] = random.random
    _failures: int = 0

    def next(self) -> float:
        plain = min(self.ceiling, self.first * 2.0 ** min(self._failures, 60))
        self._failures += 1
        return plain * (1 + self.jitter * (2 * self.rand() - 1))

    def reset(self) -> None:
        self._failures = 0

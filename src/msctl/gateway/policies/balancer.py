"""Which of several ready instances takes a request.

Pure: the loads are handed in, and so is the source of chance.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from msctl.model.project import Balance

Chance = Callable[[int], int]
"""A number from 0 up to, but not including, the argument."""


class Balancer:
    """Chooses an index by the in-flight requests of each candidate."""

    def __init__(self, chance: Chance = random.randrange) -> None:
        self._chance = chance
        self._turn = 0

    def choose(self, method: Balance, loads: Sequence[int]) -> int:
        """`loads` is not empty.

        Least loaded is the power of two choices: the less loaded of two at random, which spreads
        nearly as well as looking at all and does not herd (Mitzenmacher 2001). Round robin takes
        turns whatever the load.
        """
        count = len(loads)
        if count == 1:
            return 0
        if method is Balance.ROUND_ROBIN:
            self._turn = (self._turn + 1) % count if self._turn < count else 0
            return self._turn
        one = self._chance(count)
        other = (one + 1 + self._chance(count - 1)) % count
        return one if loads[one] <= loads[other] else other

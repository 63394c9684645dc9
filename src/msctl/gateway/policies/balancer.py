"""Load balancing: the choice of one among several ready instances. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from msctl.model.project import Balance

RandomBelow = Callable[[int], int]
"""Returns a random integer from 0 up to, but not including, the argument."""


class Balancer:
    """Chooses an instance by the requests in flight at each candidate."""

    def __init__(self, random_below: RandomBelow = random.randrange) -> None:
        self._random_below = random_below
        self._turn = 0

    def choose(self, method: Balance, loads: Sequence[int]) -> int:
        """Return an index into `loads`, which is not empty.

        Least loaded is the power of two choices: the less loaded of two random candidates, which
        spreads load nearly as well as comparing all and does not herd (Mitzenmacher 2001). Round
        robin ignores the load.
        """
        count = len(loads)
        if count == 1:
            return 0
        if method is Balance.ROUND_ROBIN:
            self._turn = (self._turn + 1) % count if self._turn < count else 0
            return self._turn
        one = self._random_below(count)
        other = (one + 1 + self._random_below(count - 1)) % count
        return one if loads[one] <= loads[other] else other

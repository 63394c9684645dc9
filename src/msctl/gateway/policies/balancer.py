"""Load balancing: the choice of one among several ready instances. Pure."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from msctl.model.upstream_policy import Balance

RandomBelow = Callable[[int], int]
"""Returns a random integer from 0 up to, but not including, the argument."""

_STEPS = 1 << 30
_GOLDEN = 0.6180339887498949
"""Multiples of it fall evenly between 0 and 1 however few are taken, so that turns by weight do not clump."""


class Balancer:
    """Chooses an instance by the requests in flight at each candidate."""

    def __init__(self, random_below: RandomBelow = random.randrange) -> None:
        self._random_below = random_below
        self._turn = 0
        self._weighted_turn = 0

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

    def choose_weighted(self, method: Balance, loads: Sequence[int], weights: Sequence[float]) -> int:
        """Return an index into `loads`, each in proportion to its weight, which is above 0.

        Least loaded draws two by weight, which may be the same, and compares their loads for their weights.
        """
        sums = list(accumulate(weights))
        if method is Balance.ROUND_ROBIN:
            self._weighted_turn += 1
            return _at(sums, self._weighted_turn * _GOLDEN % 1.0)
        one, other = (_at(sums, self._random_below(_STEPS) / _STEPS) for _ in range(2))
        return one if loads[one] * weights[other] <= loads[other] * weights[one] else other


def _at(sums: Sequence[float], share: float) -> int:
    """Return the index at a share, from 0 to 1, of the whole."""
    return min(bisect_right(sums, share * sums[-1]), len(sums) - 1)

"""Which faults a run has: drawn from its seed, or given by the shrinker. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from random import Random
from typing import NamedTuple


class FaultKind(StrEnum):
    """What can go wrong in a simulated run."""

    CUT = "cut"
    """The connections between two parties are reset, in the middle of what they say next."""
    PARTITION = "partition"
    """Nothing passes between two parties for a while; what was sent arrives afterwards."""
    DELAY = "delay"
    """Everything between two parties takes longer for a while."""
    CRASH = "crash"
    """A service ends at once, its memory is gone, and it starts again after a while."""


class Fault(NamedTuple):
    """One fault: at `at` virtual seconds, for `seconds`, between or of `parties`."""

    at: float
    kind: FaultKind
    parties: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        return f"{self.kind} {' and '.join(self.parties)} for {self.seconds:.2f} s"


EVERY_S = 8.0
"""Mean seconds between two faults."""
LONGEST_S = 5.0


def draw(
    random: Random,
    kinds: Sequence[FaultKind],
    services: Sequence[str],
    links: Sequence[tuple[str, str]],
    until: float,
) -> list[Fault]:
    """Draw the faults of a run that ends at `until`; none falls into its last third, so that it can recover.

    `links` are the pairs of parties that talk to each other.
    """
    usable = [kind for kind in kinds if (services if kind is FaultKind.CRASH else links)]
    found: list[Fault] = []
    at = random.expovariate(1 / EVERY_S)
    while usable and at < until * 2 / 3:
        kind = random.choice(usable)
        seconds = min(LONGEST_S, random.expovariate(1 / 1.5))
        if kind is FaultKind.CRASH:
            parties: tuple[str, ...] = (random.choice(list(services)),)
        else:
            parties = random.choice(list(links))
        found.append(Fault(round(at, 6), kind, parties, round(seconds, 6)))
        at += random.expovariate(1 / EVERY_S)
    return found

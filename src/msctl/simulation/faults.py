"""Which faults a run has: drawn from its seed, or given by the shrinker. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

BROKER = "broker"


class FaultKind(StrEnum):
    """What can go wrong in a simulated run."""

    CUT = "cut"
    """The connections between two parties are reset, in the middle of what they say next."""
    PARTITION = "partition"
    """Nothing passes between two parties for a while; what was sent arrives afterwards."""
    DELAY = "delay"
    """Everything between two parties takes longer for a while, or the broker delivers later."""
    CONFIRM_LOST = "confirm-lost"
    """The broker has a message, and the connection is lost with its confirm."""
    DUPLICATE = "duplicate"
    """A message arrives twice in its queue."""
    REORDER = "reorder"
    """Messages wait in their queues for a while, and are delivered in another order."""
    CRASH = "crash"
    """A service ends at once, its memory is gone, and it starts again after a while."""
    BROKER_CRASH = "broker-crash"
    """The broker ends in the middle of a write, and starts again with what its log has."""


NETWORK_FAULTS = (FaultKind.CUT, FaultKind.PARTITION, FaultKind.DELAY)
"""What a run has unless told otherwise."""
_MESSAGES = (FaultKind.DUPLICATE, FaultKind.REORDER)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: at `at` virtual seconds, for `seconds`, between or of `parties`."""

    at: float
    kind: FaultKind
    parties: tuple[str, ...]
    seconds: float

    @property
    def over(self) -> float:
        """The time at which its effects are over at the latest."""
        return self.at + self.seconds + (AWAITED_S if self.kind is FaultKind.BROKER_CRASH else 0.0)

    def __str__(self) -> str:
        return f"{self.kind} {' and '.join(self.parties)} for {self.seconds:.2f} s"


EVERY_S = 8.0
"""Mean seconds between two faults."""
LONGEST_S = 5.0
AWAITED_S = 5.0
"""How long a fault of one message, one confirm or one write waits for it."""
_AWAITS = (FaultKind.CONFIRM_LOST, FaultKind.DUPLICATE)


@dataclass(frozen=True)
class Targets:
    """What faults can hit: services, and pairs of parties that talk to each other."""

    services: Sequence[str]
    links: Sequence[tuple[str, str]]

    def of(self, kind: FaultKind) -> list[tuple[str, ...]]:
        """The parties that a fault of this kind can have."""
        if kind is FaultKind.CRASH:
            return [(service,) for service in self.services]
        if kind is FaultKind.BROKER_CRASH or kind in _MESSAGES:
            return [(BROKER,)]
        if kind is FaultKind.CONFIRM_LOST:
            return [link for link in self.links if BROKER in link]
        if kind is FaultKind.DELAY:
            return [*self.links, (BROKER,)]
        return [*self.links]


def draw(random: Random, kinds: Sequence[FaultKind], targets: Targets, until: float) -> list[Fault]:
    """Draw the faults of a run that ends at `until`: none in its last third, so that it can recover."""
    usable = [kind for kind in kinds if targets.of(kind)]
    found: list[Fault] = []
    at = random.expovariate(1 / EVERY_S)
    while usable and at < until * 2 / 3:
        kind = random.choice(usable)
        seconds = AWAITED_S if kind in _AWAITS else min(LONGEST_S, random.expovariate(1 / 1.5))
        found.append(Fault(round(at, 6), kind, random.choice(targets.of(kind)), round(seconds, 6)))
        at += random.expovariate(1 / EVERY_S)
    return found

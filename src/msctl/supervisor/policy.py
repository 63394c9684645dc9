"""Whether and when an instance that ended is started again; pure, its randomness is handed in.

The numbers are those of the documentation: 0.5 s doubling to 30 s, a fifth of it random, five
failures in a row are enough, and half a minute of readiness clears the count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msctl.model.project import RestartPolicy, ServiceSpec
from msctl.model.worker import Outcome

FIRST_DELAY = 0.5
MAX_DELAY = 30.0
JITTER = 0.2
MAX_FAILURES = 5
STABLE_AFTER = 30.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Start again after `delay` seconds."""

    delay: float
    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """Leave it: it ended as it should."""

    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Leave it: it failed for good."""

    reason: str


Verdict = Retry | Done | GiveUp


class Restarts:
    """The restart decisions for one instance since somebody last asked for it."""

    def __init__(self, random: Callable[[], float]) -> None:
        """`random` gives numbers from 0 up to 1."""
        self._random = random
        self.in_a_row = 0

    def decide(self, policy: RestartPolicy, outcome: Outcome, ready_for: float = 0.0) -> Verdict:
        """What to do after `outcome`, when the instance had been ready for `ready_for` seconds.

        `policy` is the one in force now: reload may have changed it since the last exit.
        """
        if outcome.success and policy is not RestartPolicy.ALWAYS:
            return Done(outcome.reason)
        if outcome.final or policy is RestartPolicy.NO:
            return GiveUp(outcome.reason)
        if ready_for >= STABLE_AFTER:
            self.in_a_row = 0
        self.in_a_row += 1
        if self.in_a_row >= MAX_FAILURES:
            return GiveUp(f"{outcome.reason}, {MAX_FAILURES} times in a row")
        return Retry(backoff(self.in_a_row, self._random()), outcome.reason)


def restart_policy(spec: ServiceSpec) -> RestartPolicy:
    """The policy of a service; a one-shot that has succeeded is never run again."""
    if spec.oneshot and spec.restart is RestartPolicy.ALWAYS:
        return RestartPolicy.ON_FAILURE
    return spec.restart


def backoff(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row; `chance` from 0 to 1 spreads it by ±20 %."""
    delay = min(MAX_DELAY, FIRST_DELAY * 2.0 ** (failures - 1))
    return delay * (1.0 - JITTER + 2.0 * JITTER * chance)

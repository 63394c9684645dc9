"""Restart decisions: whether and when an instance that ended is started again. Pure.

The waits are those of backoff.py (0.5 s doubling to 30 s, ±20 %); five consecutive failures are final,
and half a minute of readiness resets the count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msctl.backoff import Backoff
from msctl.model.project import RestartPolicy, ServiceSpec
from msctl.model.worker import Outcome

MAX_FAILURES = 5
STABLE_AFTER_S = 30.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Start again after `delay` seconds."""

    delay: float
    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """Leave it ended: it succeeded."""

    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Leave it ended: it failed for good."""

    reason: str


RestartDecision = Retry | Done | GiveUp


class Restarts:
    """The restart decisions for one instance since it was last asked to start."""

    def __init__(self, random: Callable[[], float]) -> None:
        """`random` gives numbers from 0 up to 1."""
        self._backoff = Backoff(rand=random)

    @property
    def consecutive_failures(self) -> int:
        return self._backoff.failures

    def decide(self, policy: RestartPolicy, outcome: Outcome, ready_for: float = 0.0) -> RestartDecision:
        """What to do after `outcome`, when the instance had been ready for `ready_for` seconds.

        `policy` is the one in force now: reload may have changed it since the last exit.
        """
        if outcome.success and policy is not RestartPolicy.ALWAYS:
            return Done(outcome.reason)
        if outcome.final or policy is RestartPolicy.NO:
            return GiveUp(outcome.reason)
        if ready_for >= STABLE_AFTER_S:
            self._backoff.reset()
        delay = self._backoff.next()
        if self._backoff.failures >= MAX_FAILURES:
            return GiveUp(f"{outcome.reason}, {MAX_FAILURES} times in a row")
        return Retry(delay, outcome.reason)


def restart_policy(spec: ServiceSpec) -> RestartPolicy:
    """The policy of a service; a one-shot that has succeeded is never run again."""
    if spec.oneshot and spec.restart is RestartPolicy.ALWAYS:
        return RestartPolicy.ON_FAILURE
    return spec.restart

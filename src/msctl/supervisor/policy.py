"""Restart decisions: whether and when an instance that ended is started again. Pure.

The waits are those of backoff.py (0.5 s doubling to 30 s, ±20 %), and start over after an exit that succeeded
and after half a minute of readiness. A service is restarted at most `max_restarts` times in a row, or within
any `restart_window` if that is set, as with systemd's StartLimitBurst and StartLimitIntervalSec.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from msctl.backoff import Backoff
from msctl.model.service_policies import RestartPolicy
from msctl.model.service_spec import ServiceSpec
from msctl.model.worker import Outcome

MAX_RESTARTS = 5
"""The default of `max_restarts` for `on-failure`; `always` has no limit."""
STABLE_AFTER_S = 30.0
_LONGEST_HISTORY = 10_000
"""Restarts that are remembered; the highest `max_restarts`."""


@dataclass(frozen=True, slots=True)
class RestartLimit:
    """At most `count` restarts (None: any number), in a row or within `window` seconds."""

    count: int | None = MAX_RESTARTS
    window: float | None = None


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
        self._restarts: deque[float] = deque()

    @property
    def consecutive_failures(self) -> int:
        return self._backoff.failures

    def decide(
        self,
        policy: RestartPolicy,
        outcome: Outcome,
        ready_for: float = 0.0,
        *,
        limit: RestartLimit = RestartLimit(),
        now: float = 0.0,
    ) -> RestartDecision:
        """What to do after `outcome` at `now`, when the instance had been ready for `ready_for` seconds.

        `policy` and `limit` are those in force now: reload may have changed them since the last exit.
        """
        if outcome.success and policy is not RestartPolicy.ALWAYS:
            return Done(outcome.reason)
        if outcome.final or policy is RestartPolicy.NO:
            return GiveUp(outcome.reason)
        if outcome.success or ready_for >= STABLE_AFTER_S:
            self._backoff.reset()
        if limit.window is None:
            if ready_for >= STABLE_AFTER_S:
                self._restarts.clear()
        else:
            while self._restarts and self._restarts[0] <= now - limit.window:
                self._restarts.popleft()
        if limit.count is not None and len(self._restarts) >= limit.count:
            return GiveUp(_given_up(outcome.reason, limit))
        self._restarts.append(now)
        while len(self._restarts) > _LONGEST_HISTORY:
            self._restarts.popleft()
        return Retry(self._backoff.next(), outcome.reason)


def still_retries(policy: RestartPolicy, limit: RestartLimit, outcome: Outcome) -> bool:
    """Whether an instance that waits for its next start after `outcome` is to wait on, by edited rules."""
    if outcome.success:
        return policy is RestartPolicy.ALWAYS and limit.count != 0
    return policy is not RestartPolicy.NO and limit.count != 0


def _given_up(reason: str, limit: RestartLimit) -> str:
    if limit.count == 0:
        return reason
    times = "1 restart" if limit.count == 1 else f"{limit.count} restarts"
    return f"{reason}, after {times}" + ("" if limit.window is None else f" in {limit.window:g} s")


def restart_policy(spec: ServiceSpec) -> RestartPolicy:
    """The policy of a service; a one-shot that has succeeded is never run again."""
    if spec.oneshot and spec.restart is RestartPolicy.ALWAYS:
        return RestartPolicy.ON_FAILURE
    return spec.restart


def restart_limit(spec: ServiceSpec) -> RestartLimit:
    """The limit of a service: its keys, else the default of its policy."""
    count = spec.max_restarts
    if count is None and spec.restart is not RestartPolicy.ALWAYS:
        count = MAX_RESTARTS
    return RestartLimit(count, spec.restart_window)

"""One request, from its route to its response: attempts, retries and what each of them means.

Thin: which instance, whether again, how long to wait and what to say are decided elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from aiohttp import web

from msctl.clock import AsyncClock
from msctl.gateway.message.problems import ProblemError
from msctl.gateway.observer import Observer
from msctl.gateway.policies.breaker import Verdict
from msctl.gateway.policies.limits import RetryBudget
from msctl.gateway.request.client_response import CLIENT_GONE, ClientGoneError
from msctl.gateway.upstream.base import AttemptError, BrokenResponseError, Outgoing
from msctl.gateway.upstream.instances import Instance, Targets
from msctl.gateway.upstream.remote import IDEMPOTENT
from msctl.model.project import GatewaySpec

FAILURE = 500
"""From this status on a response counts as the instance's failure."""


class Proxy:
    """Carries requests to a service's instances."""

    def __init__(
        self,
        spec: GatewaySpec,
        targets: Targets,
        clock: AsyncClock,
        observer: Observer | None,
        log: logging.Logger,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._spec = spec
        self._targets = targets
        self._clock = clock
        self._observer = observer
        self._now = clock.monotonic
        self._log = log
        self._jitter = jitter
        self._budgets: dict[str, RetryBudget] = {}

    async def forward(self, out: Outgoing) -> web.StreamResponse:
        """The response that `out` got; raises ProblemError, BrokenResponseError or ClientGoneError."""
        settings, observer = out.settings, self._observer
        service = settings.route.service
        started = self._now()
        budget = self._budgets.get(service) or self._budget(service)
        budget.request(started)
        tried: list[Instance] = []
        fresh = False
        while True:
            instance = self._targets.choose(service, settings.balance, tried)
            breaker = instance.breaker
            verdict = Verdict.NONE
            status: int | None = None
            instance.in_flight += 1
            if not breaker.pristine:
                breaker.enter()
            if observer is not None:
                if instance.endpoint.handler is not None:
                    observer.attempt_started(out.head.method, out.head.target)
                else:
                    out.traceparent = observer.attempt_leaves() or out.traceparent
            try:
                response = await instance.upstream.send(out, fresh=fresh)
                status = out.down.status
                verdict = Verdict.FAILED if status >= FAILURE else Verdict.SUCCEEDED
                return response
            except AttemptError as error:
                if not error.stale:
                    verdict = Verdict.FAILED
                failure = error
            except BrokenResponseError:
                status = out.down.status
                verdict = Verdict.FAILED
                raise
            except (asyncio.CancelledError, ClientGoneError):
                status = CLIENT_GONE
                raise
            finally:
                instance.in_flight -= 1
                if verdict is not Verdict.SUCCEEDED or not breaker.pristine:
                    instance.judge(verdict)
                if observer is not None:
                    now = self._now()
                    observer.attempt_finished(service, instance.name, status, now - started)
                    started = now
            tried.append(instance)
            if len(tried) > out.limits.retries or not _repeatable(out, failure) or not budget.retry():
                raise ProblemError(failure.problem.at(len(tried))) from failure
            if observer is not None:
                observer.retried(service, failure.problem.error or "error")
            fresh = failure.stale
            if not fresh:
                await self._clock.sleep(self._pause(len(tried)))

    def _pause(self, attempt: int) -> float:
        """Between tries: twice as long each time, jittered so that clients do not come back together."""
        ceiling = min(self._spec.backoff_max, self._spec.backoff_min * 2**attempt)
        return self._jitter(self._spec.backoff_min, max(self._spec.backoff_min, ceiling))

    def _budget(self, service: str) -> RetryBudget:
        budget = self._budgets.get(service)
        if budget is None:
            budget = self._budgets[service] = RetryBudget(
                self._clock, ratio=self._spec.retry_budget, floor=self._spec.retry_floor
            )
        return budget


def _repeatable(out: Outgoing, error: AttemptError) -> bool:
    """Whether asking again cannot do twice what was to be done once.

    An instance that never got the request (it refused the connection) changes nothing for any
    method; otherwise only idempotent requests are repeated, none after a byte of an answer, and none
    whose body is gone.
    """
    if (
        out.down.started
        or error.answered
        or not out.body.replayable
        or (error.problem.status == 504 and not error.unsent)
    ):
        return False
    return error.unsent or out.head.method in IDEMPOTENT

"""Forwards one request: attempts at instances, retries, and the result of each for its breaker."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from msctl.backoff import exponential
from msctl.clock import AsyncClock
from msctl.faults.http import HttpFaultPoint
from msctl.gateway.faults import FaultyUpstreams
from msctl.gateway.message.headers import Field
from msctl.gateway.message.problems import ProblemError
from msctl.gateway.observer import Observer
from msctl.gateway.policies.breaker import AttemptResult
from msctl.gateway.policies.limits import RetryBudget
from msctl.gateway.policies.split import Chance
from msctl.gateway.request.gateway_exchange import CLIENT_CLOSED, GatewayExchange
from msctl.gateway.upstream.errors import AttemptError, BrokenResponseError, failure_kind
from msctl.gateway.upstream.instances import UpstreamInstance, UpstreamInstances
from msctl.gateway.upstream.remote import IDEMPOTENT
from msctl.model.exchange import ClientGoneError, RequestError
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.upstream_policy import FailureKind

FAILURE = 500
"""The lowest status that is a failure of the application."""


class Proxy:
    """Forwards requests to the instances of a service."""

    def __init__(
        self,
        spec: GatewaySpec,
        targets: UpstreamInstances,
        clock: AsyncClock,
        observer: Observer | None,
        log: logging.Logger,
        jitter: Callable[[float, float], float] = random.uniform,
        chance: Chance = random.random,
        faults: HttpFaultPoint | None = None,
    ) -> None:
        self._spec = spec
        self._targets = targets
        self._clock = clock
        self._observer = observer
        self._now = clock.monotonic
        self._log = log
        self._jitter = jitter
        self._chance = chance
        self._faults = faults or HttpFaultPoint()
        self._faulty = FaultyUpstreams(self._faults, clock, observer)
        self._budgets: dict[str, RetryBudget] = {}

    def steer(self, out: GatewayExchange, fields: Sequence[Field]) -> None:
        """Choose the service for a request and what ties it to an instance, by the rules of its route."""
        traffic = out.settings.traffic
        if traffic is None:
            return
        affinity = out.affinity = traffic.affinity(fields, out.client[0], out.scheme)
        service = traffic.service(fields, affinity, self._chance, self._targets.ready)
        if service is not None:
            out.service = service

    async def forward(self, out: GatewayExchange) -> None:
        """Have `out` served; raises ProblemError, RequestError, BrokenResponseError or ClientGoneError."""
        settings, observer = out.settings, self._observer
        span = None if observer is None else out.span
        service = out.service
        started = self._now()
        budget = self._budgets.get(service) or self._budget(service)
        budget.request(started)
        tried: list[UpstreamInstance] = []
        fresh = False
        while True:
            instance = self._targets.choose(service, settings.balance, tried, out.affinity)
            if out.affinity is not None:
                out.tie(instance.name)
            breaker = instance.breaker
            result = AttemptResult.NONE
            status: int | None = None
            instance.in_flight += 1
            if not breaker.is_idle:
                breaker.on_start()
            attempt = None
            if span is not None:
                head = out.head
                if instance.endpoint.handler is not None:
                    attempt = span.hosted_attempt(head.method, head.target)
                else:
                    attempt = span.remote_attempt(head.method, head.target, instance.upstream.address)
                    out.traceparent = attempt.traceparent
            try:
                if (faults := self._faults.active) is None:
                    await instance.upstream.send(out, fresh=fresh)
                else:
                    await self._faulty.send(faults, instance, out, fresh=fresh)
                status = out.status
                if status < FAILURE:
                    result = AttemptResult.SUCCEEDED
                else:
                    result = _judge(out, FailureKind.STATUS_5XX)
                return
            except AttemptError as error:
                if not error.stale:
                    result = _judge(out, failure_kind(error.problem), otherwise=AttemptResult.NONE)
                failure = error
            except BrokenResponseError as error:
                status = out.status
                result = _judge(out, error.kind)
                raise
            except (asyncio.CancelledError, ClientGoneError):
                status = CLIENT_CLOSED
                raise
            except RequestError as error:
                status = error.status  # the client's, not the lack of a response
                raise
            finally:
                instance.finished()
                if result is not AttemptResult.SUCCEEDED or not breaker.is_idle:
                    instance.record(result)
                if attempt is not None:
                    now = self._now()
                    seconds = now - started - out.streamed
                    attempt.finished(service, instance.name, status, seconds, out.route)
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
        """Return the backoff before the next attempt: exponential, with jitter."""
        lowest = self._spec.backoff_min
        return self._jitter(lowest, max(lowest, exponential(attempt, lowest, self._spec.backoff_max)))

    def _budget(self, service: str) -> RetryBudget:
        budget = self._budgets.get(service)
        if budget is None:
            budget = self._budgets[service] = RetryBudget(
                self._clock, ratio=self._spec.retry_budget, floor=self._spec.retry_floor
            )
        return budget


def _judge(
    out: GatewayExchange, kind: FailureKind | None, *, otherwise: AttemptResult = AttemptResult.SUCCEEDED
) -> AttemptResult:
    """Return what an attempt says of its instance: an answer of the application is a success of it."""
    if kind is None:
        return otherwise
    if kind in out.limits.breaker_on:
        return AttemptResult.FAILED
    return AttemptResult.SUCCEEDED if kind is FailureKind.STATUS_5XX else otherwise


def _repeatable(out: GatewayExchange, error: AttemptError) -> bool:
    """Return whether another attempt is safe (RFC 9110 §9.2.2).

    A request that no instance received (connection refused) may be sent again whatever its method.
    Otherwise only idempotent requests are repeated, never after a byte of a response, and never
    without the whole body.
    """
    if (
        out.started
        or error.answered
        or not out.body.replayable
        or (error.problem.status == 504 and not error.unsent)
    ):
        return False
    return error.unsent or out.head.method in IDEMPOTENT

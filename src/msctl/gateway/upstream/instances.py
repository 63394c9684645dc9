"""The instances that a service has now, each with its breaker, its load and the way to reach it.

Follows the registry: what was withdrawn is closed, what is new is built, what stayed keeps its state.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from msctl.clock import Clock
from msctl.discovery.registry import Registry
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.observer import Observer
from msctl.gateway.policies.balancer import Balancer
from msctl.gateway.policies.breaker import Breaker, Verdict
from msctl.gateway.upstream.base import Upstream
from msctl.gateway.upstream.hosted import HostedUpstream
from msctl.gateway.upstream.remote import RemoteUpstream
from msctl.model.endpoint import Endpoint
from msctl.model.project import Balance, GatewaySpec
from msctl.model.snapshots import BreakerState, TargetSnapshot

NO_INSTANCE_RETRY = 1.0
"""Seconds that a client is told to wait when a service has no instance at all."""


class Instance:
    """One instance as the gateway deals with it."""

    __slots__ = ("_observer", "_reported", "breaker", "endpoint", "in_flight", "name", "upstream")

    def __init__(
        self, endpoint: Endpoint, upstream: Upstream, breaker: Breaker, observer: Observer | None
    ) -> None:
        self.endpoint = endpoint
        self.name = endpoint.instance
        self.upstream = upstream
        self.breaker = breaker
        self.in_flight = 0
        self._observer = observer
        self._reported = BreakerState.CLOSED

    def judge(self, verdict: Verdict) -> None:
        """An attempt is over."""
        self.breaker.judge(verdict)
        if self._observer is not None and (state := self.breaker.state) is not self._reported:
            self._reported = state
            self._observer.breaker_changed(self.endpoint.service, self.name, state)

    def snapshot(self) -> TargetSnapshot:
        state = self.breaker.state
        return TargetSnapshot(
            self.endpoint.service,
            self.name,
            self.upstream.address,
            state,
            self.in_flight,
            self.upstream.pool_open,
            self.upstream.pool_waiting,
            self.breaker.retry_in if state is not BreakerState.CLOSED else None,
        )


class Targets:
    """Finds an instance for a request."""

    def __init__(
        self,
        spec: GatewaySpec,
        registry: Registry,
        clock: Clock,
        *,
        balancer: Balancer,
        observer: Observer | None,
        log: logging.Logger,
        pool_size: Callable[[str], int],
    ) -> None:
        self._spec = spec
        self._registry = registry
        self._clock = clock
        self._balancer = balancer
        self._observer = observer
        self._log = log
        self._pool_size = pool_size
        self._known: dict[str, tuple[tuple[Endpoint, ...], tuple[Instance, ...]]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def limit(self, spec: GatewaySpec, pool_size: Callable[[str], int]) -> None:
        """Go by these from now on; every instance keeps its connections, its load and its breaker's state."""
        self._spec = spec
        self._pool_size = pool_size
        for service, (_, instances) in self._known.items():
            for instance in instances:
                instance.breaker.limit(spec.breaker_failures, spec.breaker_open, spec.breaker_cap)
                instance.upstream.limit(
                    pool_size=pool_size(service), pool_idle=spec.pool_idle, retry_body=spec.retry_body
                )

    def instances(self, service: str) -> tuple[Instance, ...]:
        endpoints = self._registry.endpoints(service)
        known = self._known.get(service)
        if known is not None and known[0] is endpoints:
            return known[1]
        return self._follow(service, endpoints, () if known is None else known[1])

    def choose(self, service: str, balance: Balance, avoid: Iterable[Instance] = ()) -> Instance:
        """The instance for the next attempt; one of `avoid` only if there is no other.

        Raises ProblemError (503) where the service has none, or where every breaker is open.
        """
        instances = self.instances(service)
        if len(instances) == 1 and (instances[0].breaker.pristine or instances[0].breaker.admits):
            return instances[0]
        if not instances:
            why = self._registry.absence(service)
            raise ProblemError(
                Problem(
                    503,
                    f"The service {service} {why}.",
                    error="destination_unavailable",
                    service=service,
                    retry_after=NO_INSTANCE_RETRY,
                )
            )
        admitted = [instance for instance in instances if instance.breaker.admits]
        if not admitted:
            wait = min(instance.breaker.retry_in for instance in instances)
            raise ProblemError(
                Problem(
                    503,
                    f"The service {service} keeps failing, so it is not asked for now"
                    f" ({', '.join(instance.name for instance in instances)}).",
                    error="destination_unavailable",
                    service=service,
                    retry_after=max(wait, NO_INSTANCE_RETRY),
                    extra={"breaker": "open"},
                )
            )
        avoided = list(avoid)
        candidates = [instance for instance in admitted if instance not in avoided] or admitted
        index = self._balancer.choose(balance, [instance.in_flight for instance in candidates])
        return candidates[index]

    def snapshot(self, services: Iterable[str]) -> tuple[TargetSnapshot, ...]:
        return tuple(instance.snapshot() for service in services for instance in self.instances(service))

    async def drain(self) -> None:
        for _, instances in list(self._known.values()):
            for instance in instances:
                await instance.upstream.drain()

    async def close(self) -> None:
        known, self._known = list(self._known.values()), {}
        for _, instances in known:
            for instance in instances:
                await instance.upstream.close()
        if self._closing:
            await asyncio.gather(*self._closing)

    def _follow(
        self, service: str, endpoints: tuple[Endpoint, ...], before: tuple[Instance, ...]
    ) -> tuple[Instance, ...]:
        kept = {instance.endpoint: instance for instance in before}
        instances: list[Instance] = []
        for endpoint in endpoints:
            instance = kept.pop(endpoint, None)
            if instance is None:
                instance = self._build(endpoint)
                self._tell(service, endpoint.instance, ready=True)
            instances.append(instance)
        current = {instance.name for instance in instances}
        for instance in kept.values():
            if instance.name not in current:
                self._tell(service, instance.name, ready=False)
            task = asyncio.get_running_loop().create_task(instance.upstream.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._known[service] = (endpoints, tuple(instances))
        return self._known[service][1]

    def _tell(self, service: str, instance: str, *, ready: bool) -> None:
        if self._observer is not None:
            self._observer.target_ready(service, instance, ready)

    def _build(self, endpoint: Endpoint) -> Instance:
        spec = self._spec
        upstream: Upstream
        if endpoint.handler is not None:
            upstream = HostedUpstream(
                endpoint.service,
                endpoint.instance,
                endpoint.handler,
                client_max_size=endpoint.client_max_size,
                log=self._log,
            )
        else:
            upstream = RemoteUpstream(
                endpoint.service,
                endpoint.instance,
                endpoint.base_url or "",
                pool_size=self._pool_size(endpoint.service),
                pool_idle=spec.pool_idle,
                retry_body=spec.retry_body,
            )
        breaker = Breaker(
            self._clock, failures=spec.breaker_failures, open_for=spec.breaker_open, cap=spec.breaker_cap
        )
        return Instance(endpoint, upstream, breaker, self._observer)

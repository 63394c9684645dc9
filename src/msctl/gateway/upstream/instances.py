"""The instances of each service, with their breakers, loads and upstreams.

Follows the registry: withdrawn instances are closed, new ones are built, the others keep their state.
`Registry.endpoints` returns the same tuple until something changes, so an identity check tells
whether the instances are current.
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
from msctl.gateway.policies.breaker import AttemptResult, Breaker
from msctl.gateway.policies.traffic import Affinity
from msctl.gateway.upstream.base import Upstream
from msctl.gateway.upstream.hosted import HostedUpstream
from msctl.gateway.upstream.remote import RemoteUpstream
from msctl.model.endpoint import Endpoint
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.snapshots import BreakerState, TargetSnapshot
from msctl.model.upstream_policy import Balance

NO_INSTANCE_RETRY = 1.0
"""Retry-After in seconds for a service without an instance."""


class UpstreamInstance:
    """An instance: its endpoint, upstream, breaker and requests in flight."""

    __slots__ = ("_observer", "_reported", "breaker", "endpoint", "idle", "in_flight", "name", "upstream")

    def __init__(
        self, endpoint: Endpoint, upstream: Upstream, breaker: Breaker, observer: Observer | None
    ) -> None:
        self.endpoint = endpoint
        self.name = endpoint.instance
        self.upstream = upstream
        self.breaker = breaker
        self.in_flight = 0
        self.idle: asyncio.Event | None = None
        """Set when the last request of a withdrawn instance ends."""
        self._observer = observer
        self._reported = BreakerState.CLOSED

    def finished(self) -> None:
        """A request has ended."""
        self.in_flight -= 1
        if self.idle is not None and not self.in_flight:
            self.idle.set()

    async def retire(self) -> None:
        """Let its requests end, and its WebSockets with code 1001; then close its connections."""
        await self.upstream.drain()
        if self.in_flight:
            self.idle = asyncio.Event()
            await self.idle.wait()
        await self.upstream.close()

    def record(self, result: AttemptResult) -> None:
        """Report the result of an attempt to the breaker."""
        self.breaker.record(result)
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


class UpstreamInstances:
    """Chooses an instance for a request."""

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
        self._known: dict[str, tuple[tuple[Endpoint, ...], tuple[UpstreamInstance, ...]]] = {}
        self._weighted: set[str] = set()
        """The services whose instances differ in weight."""
        self._retiring: dict[asyncio.Task[None], str] = {}
        """The instances that were withdrawn and still have requests."""
        registry.follow(self.drained)

    def reconfigure(self, spec: GatewaySpec, pool_size: Callable[[str], int]) -> None:
        """Apply a new configuration; instances keep their connections, loads and breaker states."""
        self._spec = spec
        self._pool_size = pool_size
        for service, (_, instances) in self._known.items():
            for instance in instances:
                instance.breaker.reconfigure(spec.breaker_failures, spec.breaker_open, spec.breaker_cap)
                instance.upstream.reconfigure(
                    pool_size=pool_size(service), pool_idle=spec.pool_idle, retry_body=spec.retry_body
                )

    def instances(self, service: str) -> tuple[UpstreamInstance, ...]:
        endpoints = self._registry.endpoints(service)
        known = self._known.get(service)
        if known is not None and known[0] is endpoints:
            return known[1]
        return self._follow(service, endpoints, () if known is None else known[1])

    def ready(self, service: str) -> tuple[str, ...]:
        """Return the names of the instances that can take a request now."""
        return tuple(one.name for one in self.instances(service) if one.breaker.allows)

    def choose(
        self,
        service: str,
        balance: Balance,
        avoid: Iterable[UpstreamInstance] = (),
        affinity: Affinity | None = None,
    ) -> UpstreamInstance:
        """Return the instance for the next attempt; one of `avoid` only if there is no other.

        `affinity` chooses among those that can answer.

        Where every breaker is open, the instance is asked whose turn comes first: one that could answer is
        never barred. Raises ProblemError (503) if the service has no instance.
        """
        instances = self.instances(service)
        if len(instances) == 1:
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
        allowed = [instance for instance in instances if instance.breaker.allows]
        if not allowed:
            return min(instances, key=lambda instance: (instance.breaker.retry_in, instance.in_flight))
        avoided = list(avoid)
        candidates = [instance for instance in allowed if instance not in avoided] or allowed
        if affinity is not None:
            tied = affinity.pick(service, [instance.name for instance in candidates])
            if tied is not None:
                return candidates[tied]
        loads = [instance.in_flight for instance in candidates]
        if service in self._weighted:
            weights = [instance.endpoint.weight for instance in candidates]
            return candidates[self._balancer.choose_weighted(balance, loads, weights)]
        return candidates[self._balancer.choose(balance, loads)]

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
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _follow(
        self, service: str, endpoints: tuple[Endpoint, ...], before: tuple[UpstreamInstance, ...]
    ) -> tuple[UpstreamInstance, ...]:
        kept = {instance.endpoint: instance for instance in before}
        instances: list[UpstreamInstance] = []
        for endpoint in endpoints:
            instance = kept.pop(endpoint, None)
            if instance is None:
                instance = self._build(endpoint)
                self._report_ready(service, endpoint.instance, ready=True)
            instances.append(instance)
        current = {instance.name for instance in instances}
        for instance in kept.values():
            if instance.name not in current:
                self._report_ready(service, instance.name, ready=False)
            task = asyncio.get_running_loop().create_task(instance.retire())
            self._retiring[task] = instance.name
            task.add_done_callback(self._retired)
        if len({endpoint.weight for endpoint in endpoints}) > 1:
            self._weighted.add(service)
        else:
            self._weighted.discard(service)
        self._known[service] = (endpoints, tuple(instances))
        return self._known[service][1]

    async def drained(self, service: str, name: str) -> None:
        """Wait until a withdrawn instance has no request left."""
        if service in self._known:
            self.instances(service)  # take notice of the withdrawal
        if tasks := [task for task, instance in self._retiring.items() if instance == name]:
            await asyncio.wait(tasks)

    def _retired(self, task: asyncio.Task[None]) -> None:
        del self._retiring[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("cannot close the connections of an instance: %s", error)

    def _report_ready(self, service: str, instance: str, *, ready: bool) -> None:
        if self._observer is not None:
            self._observer.target_ready(service, instance, ready)

    def _build(self, endpoint: Endpoint) -> UpstreamInstance:
        spec = self._spec
        upstream: Upstream
        if endpoint.handler is not None:
            upstream = HostedUpstream(endpoint.service, endpoint.instance, endpoint.handler, log=self._log)
        else:
            upstream = RemoteUpstream(
                endpoint.service,
                endpoint.instance,
                endpoint.base_url or "",
                pool_size=self._pool_size(endpoint.service),
                pool_idle=spec.pool_idle,
                retry_body=spec.retry_body,
                tls=endpoint.tls,
                server_name=endpoint.server_name,
                host_header=endpoint.host_header,
            )
        breaker = Breaker(
            self._clock, failures=spec.breaker_failures, open_for=spec.breaker_open, cap=spec.breaker_cap
        )
        return UpstreamInstance(endpoint, upstream, breaker, self._observer)

"""The gateway: the handler that a listener calls for every request.

Connects the pure parts (validation, routing, headers, filters, problems) with the proxy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex

from aiohttp import web

from msctl.clock import AsyncClock
from msctl.discovery.registry import Registry
from msctl.gateway.composition import Composer
from msctl.gateway.explain import explain
from msctl.gateway.message.headers import Field, Fields, Trust
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.message.response_fields import Edits
from msctl.gateway.message.trace_context import request_id, trace_id, traceparent
from msctl.gateway.observer import Observer, method_label
from msctl.gateway.policies.balancer import Balancer
from msctl.gateway.policies.deadline import Deadline, DeadlineTimer
from msctl.gateway.proxy import Proxy
from msctl.gateway.request.client_response import CLIENT_CLOSED, ClientGoneError, ClientResponse
from msctl.gateway.request.filters import DirectResponse, apply_filters
from msctl.gateway.request.plan import Plan, Planner
from msctl.gateway.routing.route_settings import first_set, settings
from msctl.gateway.routing.routes import RouteTable
from msctl.gateway.server import GatewayProtocol, peer_of
from msctl.gateway.upstream.base import NO_BODY, Body, BrokenResponseError, UpstreamRequest, too_large
from msctl.gateway.upstream.instances import UpstreamInstances
from msctl.model.project import GatewaySpec, RouteSpec, UpstreamPolicy
from msctl.model.routing import RouteExplanation
from msctl.model.snapshots import TargetSnapshot
from msctl.secret import Secret


class Gateway:
    """A reverse proxy over the instances in `registry`.

    `services` maps a service to its own policy; `secrets` maps an environment variable to the keys of
    routes that require authentication. Raises ConfigError for a secret that is missing or unusable.
    """

    def __init__(
        self,
        spec: GatewaySpec,
        routes: Sequence[RouteSpec],
        registry: Registry,
        *,
        clock: AsyncClock,
        services: Mapping[str, UpstreamPolicy] | None = None,
        secrets: Mapping[str, Secret] | None = None,
        observer: Observer | None = None,
        log: logging.Logger | None = None,
        identity: str | None = None,
    ) -> None:
        self.pseudonym = f"msctl-{identity or token_hex(4)}"
        self._clock = clock
        self._now = clock.monotonic
        self._log = log or logging.getLogger("msctl.gateway")
        self._observer = observer
        self._secrets: Mapping[str, Secret] = {} if secrets is None else secrets
        self._targets = UpstreamInstances(
            spec,
            registry,
            clock,
            balancer=Balancer(),
            observer=observer,
            log=self._log,
            pool_size=_pool_sizes(spec, services or {}),
        )
        self.reconfigure(spec, routes, services)
        self._timer: DeadlineTimer | None = None
        self._draining = False
        self._active = 0
        self._idle: asyncio.Event | None = None

    def reconfigure(
        self,
        spec: GatewaySpec,
        routes: Sequence[RouteSpec],
        services: Mapping[str, UpstreamPolicy] | None = None,
        secrets: Mapping[str, Secret] | None = None,
    ) -> None:
        """Apply a new configuration to the requests that follow; those in flight keep the old one.

        Connections and breakers are kept; retry budgets and rate limits start over. The listener's
        address is not configured here. Without `secrets`, the ones given before are used.
        Raises ConfigError as the constructor does, and then changes nothing.
        """
        policies = services or {}
        secrets = self._secrets if secrets is None else secrets
        table = RouteTable(routes)
        known = [
            settings(spec, route, _policy(policies, route.service), self._clock, secrets) for route in routes
        ]
        planner = Planner(table, known, Trust.of(spec.trusted_peers), self.pseudonym, spec)
        self.spec = spec
        self._secrets = secrets
        self._ready_path = spec.ready_path
        self._table = table
        self._planner = planner
        self._services = tuple(dict.fromkeys(route.service for route in routes if route.service))
        self._targets.reconfigure(spec, _pool_sizes(spec, policies))
        self._proxy = Proxy(spec, self._targets, self._clock, self._observer, self._log)

    async def startup(self) -> None:
        """Prepare to handle requests on the running loop."""
        self._timer = DeadlineTimer(asyncio.get_running_loop())
        self._draining = False

    @property
    def ready(self) -> bool:
        return self._timer is not None and not self._draining

    @property
    def routes(self) -> tuple[RouteSpec, ...]:
        return tuple(rule.spec for rule in self._table.rules)

    def targets(self) -> tuple[TargetSnapshot, ...]:
        """Return the breaker, load and connections of every instance behind a route."""
        return self._targets.snapshot(self._services)

    def explain(self, method: str, target: str, headers: Mapping[str, str] | None = None) -> RouteExplanation:
        """Say which route, service and instance such a request would take now, and why; sends nothing."""
        return explain(self._planner, self._targets, method, target, headers or {})

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for requests in flight; close WebSockets with code 1001.

        From now on the gateway is not ready, and every response closes its connection.
        """
        self._draining = True
        if not self._active:
            return
        self._idle = asyncio.Event()
        try:
            async with asyncio.timeout(timeout):
                await self._targets.drain()
                await self._idle.wait()
        except TimeoutError:
            self._log.warning(
                "%d requests were still in flight when the gateway stopped waiting", self._active
            )

    async def cleanup(self) -> None:
        """Close every connection to upstreams."""
        await self._targets.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; every failure becomes a response or an aborted connection."""
        started = self._now()
        client = ClientResponse(request)
        if self._draining:
            client.keep_alive = False
        self._active += 1
        observer = self._observer
        if observer is not None:
            message = client.message
            traceparents = message.headers.getall("traceparent", ())
            observer.request_started(message.method, message.path, traceparents)
        try:
            try:
                if client.message.path == self._ready_path:
                    return await self._readiness(client)
                plan = self._plan(client)
                if plan.settings.filtered:
                    response = await self._apply_filters(plan, client)
                    if response is not None:
                        return response
                return await self._proxy.forward(self._outgoing(plan, client))
            except ProblemError as error:
                return await self._refuse(request, client, error.problem)
        except BrokenResponseError as error:
            self._log.warning(
                "%s %s: %s; the client's connection was aborted", request.method, request.path, error
            )
            return error.response
        except (asyncio.CancelledError, ClientGoneError, ConnectionError) as error:
            client.status = CLIENT_CLOSED
            self._log.info("499 %s %s: the client closed the connection", request.method, request.path)
            if isinstance(error, asyncio.CancelledError):
                raise
            return client.abort()
        except Exception:  # noqa: BLE001 - a bug of ours costs this request only
            # A body that has begun is aborted: a clean end would make it look complete.
            self._log.exception("%s %s: the gateway failed", request.method, request.path)
            if client.started:
                return client.abort()
            problem = Problem(
                500, "The gateway failed; its log has the traceback.", error="proxy_internal_error"
            )
            return await self._refuse(request, client, problem)
        finally:
            self._active -= 1
            if not self._active and self._idle is not None:
                self._idle.set()
            if observer is not None:
                self._report(observer, request.method, client, self._now() - started)

    @staticmethod
    def _report(observer: Observer, method: str, client: ClientResponse, seconds: float) -> None:
        route = None if client.plan is None else client.plan.settings.route
        service, path = ("", "") if route is None else (route.service, route.path)
        observer.request_finished(service, path, method_label(method), client.status, seconds)

    def _plan(self, client: ClientResponse) -> Plan:
        """Plan a request; raises ProblemError for one that is refused."""
        message, protocol = client.message, client.request.protocol
        plan = client.plan = self._planner.plan(
            message.method,
            message.path,
            message.version,
            message.raw_headers,
            protocol.peer if type(protocol) is GatewayProtocol else peer_of(protocol),
        )
        if plan.close:
            client.keep_alive = False
        client.traceparent = parent = traceparent(plan.trace)
        client.request_id = plan.request_id or trace_id(parent)
        change = plan.settings.route.response_headers
        if change is not None:
            client.edits = Edits(client.request_id, change)
        return plan

    async def _apply_filters(self, plan: Plan, client: ClientResponse) -> web.StreamResponse | None:
        """Return the gateway's own response, or None if the request is to be forwarded."""
        client.edits = client.edits or Edits(client.request_id)
        verdict = apply_filters(plan, client.message.raw_headers, client.edits, client, self._observer)
        if isinstance(verdict, DirectResponse):
            # With the fields that the filters before this one added.
            fields = client.edits.sign(list(verdict.fields))
            return await client.answer(verdict.status, verdict.reason, fields, b"")
        compose = plan.settings.route.compose
        return None if compose is None else await self._composer().answer(compose, plan, client, verdict)

    def _outgoing(self, plan: Plan, client: ClientResponse) -> UpstreamRequest:
        limit, length = plan.settings.limits.max_body, plan.length
        if limit and length is not None and length > limit:
            raise ProblemError(too_large(limit))
        if self._timer is None:
            raise RuntimeError("the gateway was not started")
        body = NO_BODY
        if length or plan.chunked:
            body = Body(client.request.content, length=length, chunked=plan.chunked, limit=limit)
        return UpstreamRequest(
            plan, body, client, Deadline(self._timer), client.request_id, client.traceparent
        )

    def _composer(self) -> Composer:
        if self._timer is None:
            raise RuntimeError("the gateway was not started")
        return Composer(self._planner, self._proxy, self._timer)

    async def _readiness(self, client: ClientResponse) -> web.StreamResponse:
        if not self.ready:
            raise ProblemError(Problem(503, "The gateway is stopping.", retry_after=1.0))
        fields: Fields = [(b"Content-Type", b"text/plain; charset=utf-8")]
        return await client.answer(200, b"OK", Edits(request_id()).sign(fields), b"ready\n")

    async def _refuse(
        self, request: web.Request, client: ClientResponse, problem: Problem
    ) -> web.StreamResponse:
        """Send `problem` to the client, or abort a response that has already started."""
        if client.started:
            return client.abort()
        # A client that waits for a 100 may or may not send its body: the next request cannot be found.
        if problem.close or (client.plan is not None and client.plan.expects_continue):
            client.keep_alive = False
        if problem.status >= 500:
            self._log.warning("%d %s %s: %s", problem.status, request.method, request.path, problem.detail)
        edits = client.edits or Edits(client.request_id or request_id())
        fields: list[Field] = problem.headers(self.pseudonym)
        body = problem.body(self.pseudonym, edits.request_id)
        return await client.answer(problem.status, problem.title.encode(), edits.sign(fields), body)


def _pool_sizes(spec: GatewaySpec, policies: Mapping[str, UpstreamPolicy]) -> Callable[[str], int]:
    return lambda service: first_set(_policy(policies, service).pool_size, spec.pool_size)


def _policy(policies: Mapping[str, UpstreamPolicy], service: str) -> UpstreamPolicy:
    return policies.get(service) or UpstreamPolicy()

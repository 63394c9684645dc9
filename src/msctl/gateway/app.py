"""The gateway: what a listener calls for every request.

Puts the pure parts (admission, routes, headers, guards, problems) and the proxy together; the one place
in the package that knows them all.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence

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
from msctl.gateway.policies.deadline import Deadline, Watch
from msctl.gateway.proxy import Proxy
from msctl.gateway.request.client_response import CLIENT_GONE, ClientGoneError, Downstream
from msctl.gateway.request.plan import Plan, Planner
from msctl.gateway.request.route_guard import Answer, guard
from msctl.gateway.routing.route_settings import first, settings
from msctl.gateway.routing.routes import RouteTable
from msctl.gateway.server import GatewayProtocol, origin
from msctl.gateway.upstream.base import NO_BODY, Body, BrokenResponseError, Outgoing, too_large
from msctl.gateway.upstream.instances import Targets
from msctl.model.project import GatewaySpec, RouteSpec, UpstreamPolicy
from msctl.model.routing import RouteExplanation
from msctl.model.snapshots import TargetSnapshot


class Gateway:
    """A reverse proxy over the instances in `registry`.

    `services` holds what each service's own configuration says about how it is to be talked to;
    `environ` is where the keys of guarded routes are found. Raises ConfigError for one that is not.
    """

    def __init__(
        self,
        spec: GatewaySpec,
        routes: Sequence[RouteSpec],
        registry: Registry,
        *,
        clock: AsyncClock,
        services: Mapping[str, UpstreamPolicy] | None = None,
        environ: Mapping[str, str] | None = None,
        observer: Observer | None = None,
        log: logging.Logger | None = None,
        identity: str | None = None,
    ) -> None:
        self.pseudonym = f"msctl-{identity or secrets.token_hex(4)}"
        self._clock = clock
        self._now = clock.monotonic
        self._log = log or logging.getLogger("msctl.gateway")
        self._observer = observer
        self._environ = os.environ if environ is None else environ
        self._targets = Targets(
            spec,
            registry,
            clock,
            balancer=Balancer(),
            observer=observer,
            log=self._log,
            pool_size=_pool_sizes(spec, services or {}),
        )
        self.reconfigure(spec, routes, services)
        self._watch: Watch | None = None
        self._draining = False
        self._active = 0
        self._idle: asyncio.Event | None = None

    def reconfigure(
        self,
        spec: GatewaySpec,
        routes: Sequence[RouteSpec],
        services: Mapping[str, UpstreamPolicy] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Go by these from the next request on; those under way end by what they began with.

        Connections and breakers stay; retry budgets and rate limits begin anew. Where it listens is
        not its own affair. Without `environ`, keys are where they were. Raises ConfigError as the
        constructor does; then nothing has changed.
        """
        policies = services or {}
        environ = self._environ if environ is None else environ
        table = RouteTable(routes)
        known = [
            settings(spec, route, _policy(policies, route.service), self._clock, environ) for route in routes
        ]
        planner = Planner(table, known, Trust.of(spec.trusted_peers), self.pseudonym, spec)
        self.spec = spec
        self._environ = environ
        self._ready_path = spec.ready_path
        self._table = table
        self._planner = planner
        self._services = tuple(dict.fromkeys(route.service for route in routes if route.service))
        self._targets.limit(spec, _pool_sizes(spec, policies))
        self._proxy = Proxy(spec, self._targets, self._clock, self._observer, self._log)

    async def startup(self) -> None:
        """Get ready to handle requests, on the loop that runs."""
        self._watch = Watch(asyncio.get_running_loop())
        self._draining = False

    @property
    def ready(self) -> bool:
        return self._watch is not None and not self._draining

    @property
    def routes(self) -> tuple[RouteSpec, ...]:
        return tuple(rule.spec for rule in self._table.rules)

    def targets(self) -> tuple[TargetSnapshot, ...]:
        """Every instance behind a route: its breaker, its load, its connections."""
        return self._targets.snapshot(self._services)

    def explain(self, method: str, target: str, headers: Mapping[str, str] | None = None) -> RouteExplanation:
        """Which route, service and instance such a request would take now, and why; sends nothing."""
        return explain(self._planner, self._targets, method, target, headers or {})

    async def drain(self, timeout: float) -> None:
        """Finish what is in flight, for at most `timeout` seconds; WebSockets are told 1001.

        From now on the gateway is not ready, and every answer closes its connection.
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
        """Answer one request; whatever goes wrong becomes a response or an aborted connection."""
        started = self._now()
        down = Downstream(request)
        if self._draining:
            down.keep_alive = False
        self._active += 1
        observer = self._observer
        if observer is not None:
            message = down.message
            traceparents = message.headers.getall("traceparent", ())
            observer.request_started(message.method, message.path, traceparents)
        try:
            try:
                if down.message.path == self._ready_path:
                    return await self._readiness(down)
                plan = self._plan(down)
                if plan.settings.guarded:
                    answered = await self._guarded(plan, down)
                    if answered is not None:
                        return answered
                return await self._proxy.forward(self._outgoing(plan, down))
            except ProblemError as error:
                return await self._refuse(request, down, error.problem)
        except BrokenResponseError as error:
            self._log.warning(
                "%s %s: %s; the client's connection was aborted", request.method, request.path, error
            )
            return error.response
        except (asyncio.CancelledError, ClientGoneError, ConnectionError) as error:
            down.status = CLIENT_GONE
            self._log.info("499 %s %s: the client closed the connection", request.method, request.path)
            if isinstance(error, asyncio.CancelledError):
                raise
            return down.abort()
        except Exception:  # noqa: BLE001 - see the next line
            # A defect of ours must cost this one request, and end no body as if it were whole.
            self._log.exception("%s %s: the gateway failed", request.method, request.path)
            if down.started:
                return down.abort()
            problem = Problem(
                500, "The gateway failed; its log has the traceback.", error="proxy_internal_error"
            )
            return await self._refuse(request, down, problem)
        finally:
            self._active -= 1
            if not self._active and self._idle is not None:
                self._idle.set()
            if observer is not None:
                self._report(observer, request.method, down, self._now() - started)

    @staticmethod
    def _report(observer: Observer, method: str, down: Downstream, seconds: float) -> None:
        route = None if down.plan is None else down.plan.settings.route
        service, path = ("", "") if route is None else (route.service, route.path)
        observer.request_finished(service, path, method_label(method), down.status, seconds)

    def _plan(self, down: Downstream) -> Plan:
        """What to do with a request; raises ProblemError for one that is refused."""
        message, protocol = down.message, down.request.protocol
        plan = down.plan = self._planner.plan(
            message.method,
            message.path,
            message.version,
            message.raw_headers,
            protocol.origin if type(protocol) is GatewayProtocol else origin(protocol),
        )
        if plan.close:
            down.keep_alive = False
        down.traceparent = parent = traceparent(plan.trace)
        down.request_id = plan.request_id or trace_id(parent)
        change = plan.settings.route.response_headers
        if change is not None:
            down.edits = Edits(down.request_id, change)
        return plan

    async def _guarded(self, plan: Plan, down: Downstream) -> web.StreamResponse | None:
        """The gateway's own answer to a request; None for one that may go on to its service."""
        down.edits = down.edits or Edits(down.request_id)
        verdict = guard(plan, down.message.raw_headers, down.edits, down, self._observer)
        if isinstance(verdict, Answer):
            # With what the guards that were passed have put into them.
            fields = down.edits.sign(list(verdict.fields))
            return await down.answer(verdict.status, verdict.reason, fields, b"")
        compose = plan.settings.route.compose
        return None if compose is None else await self._composer().answer(compose, plan, down, verdict)

    def _outgoing(self, plan: Plan, down: Downstream) -> Outgoing:
        limit, length = plan.settings.limits.max_body, plan.length
        if limit and length is not None and length > limit:
            raise ProblemError(too_large(limit))
        if self._watch is None:
            raise RuntimeError("the gateway was not started")
        body = NO_BODY
        if length or plan.chunked:
            body = Body(down.request.content, length=length, chunked=plan.chunked, limit=limit)
        return Outgoing(plan, body, down, Deadline(self._watch), down.request_id, down.traceparent)

    def _composer(self) -> Composer:
        if self._watch is None:
            raise RuntimeError("the gateway was not started")
        return Composer(self._planner, self._proxy, self._watch)

    async def _readiness(self, down: Downstream) -> web.StreamResponse:
        if not self.ready:
            raise ProblemError(Problem(503, "The gateway is stopping.", retry_after=1.0))
        fields: Fields = [(b"Content-Type", b"text/plain; charset=utf-8")]
        return await down.answer(200, b"OK", Edits(request_id()).sign(fields), b"ready\n")

    async def _refuse(self, request: web.Request, down: Downstream, problem: Problem) -> web.StreamResponse:
        """Answer for an upstream, or because of the request itself."""
        if down.started:
            return down.abort()
        # A client that waits for a 100 may or may not send its body now: nothing after it can be told apart.
        if problem.close or (down.plan is not None and down.plan.expects_continue):
            down.keep_alive = False
        if problem.status >= 500:
            self._log.warning("%d %s %s: %s", problem.status, request.method, request.path, problem.detail)
        edits = down.edits or Edits(down.request_id or request_id())
        fields: list[Field] = problem.headers(self.pseudonym)
        body = problem.body(self.pseudonym, edits.request_id)
        return await down.answer(problem.status, problem.title.encode(), edits.sign(fields), body)


def _pool_sizes(spec: GatewaySpec, policies: Mapping[str, UpstreamPolicy]) -> Callable[[str], int]:
    return lambda service: first(_policy(policies, service).pool_size, spec.pool_size)


def _policy(policies: Mapping[str, UpstreamPolicy], service: str) -> UpstreamPolicy:
    return policies.get(service) or UpstreamPolicy()

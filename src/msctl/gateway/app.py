"""The gateway: the handler that a listener calls for every request.

Connects the pure parts (validation, routing, headers, filters, problems) with the proxy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex

from msctl.clock import AsyncClock
from msctl.discovery.registry import Registry
from msctl.faults.http import HttpFaultPoint
from msctl.gateway.access import Access
from msctl.gateway.api_documents import ApiDocuments
from msctl.gateway.composition import Composer
from msctl.gateway.explain import explain
from msctl.gateway.forward_auth import ForwardAuth
from msctl.gateway.message.headers import Field, Fields, Trust, values
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.message.response_fields import Edits
from msctl.gateway.message.trace_context import request_id, trace_id, traceparent
from msctl.gateway.mirror import Mirror
from msctl.gateway.observer import Observer
from msctl.gateway.policies.balancer import Balancer
from msctl.gateway.policies.deadline import Deadline, DeadlineError, DeadlineTimer
from msctl.gateway.proxy import Proxy
from msctl.gateway.request.body import NO_BODY, ForwardedBody, too_large
from msctl.gateway.request.filters import DirectResponse, apply_filters, cors_filter
from msctl.gateway.request.forwarded import Plan
from msctl.gateway.request.gateway_exchange import CLIENT_CLOSED, GatewayExchange
from msctl.gateway.request.plan import Planner
from msctl.gateway.route_files import RouteFiles
from msctl.gateway.routing.route_settings import settings
from msctl.gateway.routing.routes import RouteTable
from msctl.gateway.upstream.errors import BrokenResponseError
from msctl.gateway.upstream.instances import UpstreamInstances
from msctl.gateway.upstream.remote_keys import RemoteKeys
from msctl.http.date import http_date
from msctl.model.exchange import ClientGoneError, Exchange, RequestError, RequestHead
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_policies import JwtSpec, MirrorSpec
from msctl.model.route_spec import RouteSpec
from msctl.model.routing import RouteExplanation
from msctl.model.snapshots import TargetSnapshot
from msctl.model.upstream_policy import UpstreamPolicy, first_set
from msctl.secret import Secret

_TRACEPARENTS = "msctl.traceparents"


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
        faults: HttpFaultPoint | None = None,
    ) -> None:
        self._faults = faults
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
        self._access = Access()
        self._forward_auth = ForwardAuth()
        self._files = RouteFiles(self._log)
        self._mirror = Mirror(self._log)
        self._key_sources: dict[JwtSpec, RemoteKeys] = {}
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
            settings(spec, route, _policy(policies, route.service), self._clock, secrets, self._key_source)
            for route in routes
        ]
        used = {route.jwt for route in routes}
        self._key_sources = {spec: source for spec, source in self._key_sources.items() if spec in used}
        planner = Planner(table, known, Trust.of(spec.trusted_peers), self.pseudonym, spec)
        self.spec = spec
        self._secrets = secrets
        self._ready_path = spec.ready_path
        self._openapi = spec.openapi
        self._table = table
        self._planner = planner
        named = (name for route in routes for name in (route.service, *route.other_services))
        self._services = tuple(dict.fromkeys(name for name in named if name))
        self._forward_auth.reconfigure(spec)
        self._targets.reconfigure(spec, _pool_sizes(spec, policies))
        self._proxy = Proxy(spec, self._targets, self._clock, self._observer, self._log, faults=self._faults)
        self._documents = ApiDocuments(planner, self._proxy, table.rules, self._clock)
        self._mirror_proxy = Proxy(spec, self._targets, self._clock, None, self._log)

    def _key_source(self, spec: JwtSpec) -> RemoteKeys:
        """Return the keys of an issuer, the same for the same configuration."""
        found = self._key_sources.get(spec)
        if found is None:
            found = self._key_sources[spec] = RemoteKeys(spec, self._clock, log=self._log)
        return found

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
        return explain(self._planner, self._targets, self.spec, method, target, headers or {})

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
        await self._mirror.close()
        for source in self._key_sources.values():
            await source.close()
        await self._forward_auth.close()
        await self._targets.close()

    async def handle(self, received: Exchange) -> None:
        """Serve one request; every failure becomes a response or an aborted connection."""
        started = self._now()
        exchange = GatewayExchange(received)
        if self._draining:
            received.keep_alive = False
        self._active += 1
        observer, head = self._observer, received.head
        if observer is not None:
            exchange.span = observer.request_started(received, _traceparents(head))
        status = 0
        try:
            try:
                if head.target == self._ready_path:
                    self._readiness(received)
                    return
                if head.target == self._openapi:
                    self._planner.check_host(self._planner.validated(head))
                    await self._documents.answer(received, self._running_timer)
                    return
                plan = self._plan(exchange)
                if plan.settings.filtered:
                    admitted = await self._apply_filters(plan, exchange)
                    if admitted is None:
                        return
                    plan = admitted
                exchange.forward(plan, self._body(plan, received), Deadline(self._running_timer))
                if plan.settings.traffic is not None:
                    self._proxy.steer(exchange, _fields(received))
                    await self._copy(plan.settings.traffic.mirror, plan, exchange)
                await self._proxy.forward(exchange)
            except ProblemError as error:
                self._refuse(exchange, error.problem)
            except RequestError as error:
                self._refuse(exchange, _client_problem(error))
        except BrokenResponseError as error:
            self._log.warning(
                "%s %s: %s; the client's connection was aborted", head.method, _path(head), error
            )
        except (asyncio.CancelledError, ConnectionError) as error:
            if not exchange.stream_at:  # the client ends a stream, and there is no other end
                status = CLIENT_CLOSED
                why = "the client closed the connection"
                if isinstance(error, ClientGoneError):
                    why = str(error)
                elif isinstance(error, asyncio.CancelledError) and not received.disconnected:
                    why = "the request was cancelled"
                self._log.info("499 %s %s: %s", head.method, _path(head), why)
            if isinstance(error, asyncio.CancelledError):
                raise
            received.abort()
        except Exception:  # noqa: BLE001 - a bug of ours costs this request only
            # A body that has begun is aborted: a clean end would make it look complete.
            self._log.exception("%s %s: the gateway failed", head.method, _path(head))
            self._refuse(
                exchange,
                Problem(500, "The gateway failed; its log has the traceback.", error="proxy_internal_error"),
            )
        finally:
            self._active -= 1
            if not self._active and self._idle is not None:
                self._idle.set()
            span = exchange.span
            if observer is not None and span is not None:
                plan_ = exchange.plan
                route = None if plan_ is None else plan_.settings.route
                service, path = ("", "") if route is None else (exchange.service or route.service, route.path)
                seconds = self._now() - started + received.head_seconds
                if exchange.stream_at:
                    streamed = exchange.streamed
                    observer.stream_finished(service, path, streamed)
                    seconds -= streamed
                span.finished(service, path, status or received.status, seconds)

    def _plan(self, exchange: GatewayExchange) -> Plan:
        """Plan a request; raises ProblemError for one that is refused."""
        received = exchange.received
        peer = (received.client[0], received.scheme)
        plan = exchange.plan = self._planner.plan(received.head, peer, received.extra)
        if plan.close:
            received.keep_alive = False
        facts = plan.facts
        span = exchange.span
        if span is None:
            exchange.traceparent = traceparent(facts.trace)
            exchange.request_id = facts.request_id or trace_id(exchange.traceparent)
        else:
            exchange.traceparent = span.traceparent
            exchange.request_id = facts.request_id or span.trace_id
        change = plan.settings.route.response_headers
        if change is not None:
            exchange.edits = Edits(exchange.request_id, change)
        return plan

    async def _apply_filters(self, plan: Plan, exchange: GatewayExchange) -> Plan | None:
        """Return the plan of a request that is to be forwarded, None if the gateway has answered it."""
        exchange.edits = exchange.edits or Edits(exchange.request_id)
        settings, received, timer = plan.settings, exchange.received, self._running_timer
        fields = _fields(received)
        verdict = cors_filter(plan, fields, exchange.edits, exchange)
        if isinstance(verdict, Edits):
            if settings.keys is not None or settings.users is not None:
                await self._access.check(settings, fields)
            verdict = apply_filters(plan, fields, verdict, exchange, self._observer)
        if isinstance(verdict, DirectResponse):
            # With the fields that the filters before this one added.
            own = exchange.edits.sign([*verdict.fields, (b"Date", http_date())])
            received.respond(verdict.status, verdict.reason, own, b"")
            return None
        route = settings.route
        if route.forward_auth is not None:
            allowed = await self._forward_auth.ask(
                route.forward_auth, plan, exchange, self._planner, self._proxy, timer
            )
            if allowed is None:
                return None
            plan = allowed
        if route.compose is not None:
            composer = Composer(self._planner, self._proxy, timer)
            await composer.answer(route.compose, plan, exchange, verdict)
            return None
        if route.static is not None:
            exchange.forward(plan, NO_BODY, Deadline(timer))
            await self._files.send(route.static, exchange)
            return None
        return plan

    async def _copy(self, spec: MirrorSpec | None, plan: Plan, exchange: GatewayExchange) -> None:
        """Send a copy of a request, if its route has a mirror."""
        if spec is not None and self._mirror.copies(spec, plan):
            data = await _kept_body(exchange)
            self._mirror.send(spec, plan, exchange, data, self._mirror_proxy, self._running_timer)

    @staticmethod
    def _body(plan: Plan, received: Exchange) -> ForwardedBody:
        length = plan.facts.length
        if not length and not plan.facts.chunked:
            return NO_BODY
        limit = plan.settings.limits.max_body
        if limit and length is not None and length > limit:
            raise RequestError(413, too_large(limit))
        return ForwardedBody(received.body, length=length, limit=limit)

    @property
    def _running_timer(self) -> DeadlineTimer:
        if self._timer is None:
            raise RuntimeError("the gateway was not started")
        return self._timer

    def _readiness(self, received: Exchange) -> None:
        if not self.ready:
            raise ProblemError(Problem(503, "The gateway is stopping.", retry_after=1.0))
        fields: Fields = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Date", http_date())]
        received.respond(200, b"OK", Edits(request_id()).sign(fields), b"ready\n")

    def _refuse(self, exchange: GatewayExchange, problem: Problem) -> None:
        """Send `problem` to the client, or abort a response that has already started."""
        received = exchange.received
        if received.status:
            received.abort()
            return
        # A client that waits for a 100 may or may not send its body: the next request cannot be found.
        if problem.close or (exchange.plan is not None and exchange.plan.facts.expects_continue):
            received.keep_alive = False
        if problem.status >= 500:
            self._log.warning(
                "%d %s %s: %s", problem.status, received.head.method, _path(received.head), problem.detail
            )
        edits = exchange.edits or Edits(exchange.request_id or request_id())
        fields: list[Field] = [*problem.headers(self.pseudonym), (b"Date", http_date())]
        body = problem.body(self.pseudonym, edits.request_id)
        received.respond(problem.status, problem.title.encode(), edits.sign(fields), body)


def _traceparents(head: RequestHead) -> Sequence[str]:
    """Return the values of traceparent; found once for a head that requests share."""
    memo = head.fields_memo
    found: tuple[str, ...] | None = memo.get(_TRACEPARENTS)
    if found is None:
        found = tuple(value.decode("latin-1") for value in values(head.fields, b"traceparent"))
        memo[_TRACEPARENTS] = found
    return found


def _fields(received: Exchange) -> Sequence[Field]:
    """Return all fields of a request."""
    return received.head.fields if not received.extra else (*received.head.fields, *received.extra)


async def _kept_body(exchange: GatewayExchange) -> bytes:
    """Buffer the body of a request, which is known to be short."""
    deadline = exchange.deadline
    try:
        with deadline:
            deadline.extend(exchange.limits.idle_timeout, "request body")
            return await exchange.body.keep()
    except DeadlineError as error:
        seconds = exchange.limits.idle_timeout
        raise RequestError(408, f"No data of the request's body arrived for {seconds:g} s.") from error


def _path(head: RequestHead) -> str:
    return head.target.partition("?")[0]


def _client_problem(error: RequestError) -> Problem:
    """Describe an error of the client, whose next request cannot be found."""
    return Problem(error.status, error.detail, close=True)


def _pool_sizes(spec: GatewaySpec, policies: Mapping[str, UpstreamPolicy]) -> Callable[[str], int]:
    return lambda service: first_set(_policy(policies, service).pool_size, spec.pool_size)


def _policy(policies: Mapping[str, UpstreamPolicy], service: str) -> UpstreamPolicy:
    return policies.get(service) or UpstreamPolicy()

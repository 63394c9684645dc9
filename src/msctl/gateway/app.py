"""The gateway: what a listener calls for every request.

Puts the pure parts (admission, routes, headers, problems) and the proxy together; the one place in
the package that knows them all.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from aiohttp import web

from msctl.clock import AsyncClock
from msctl.discovery.registry import Registry
from msctl.gateway.admission import Admitted, admit
from msctl.gateway.balancer import Balancer
from msctl.gateway.deadline import Deadline
from msctl.gateway.downstream import ClientGoneError, Downstream
from msctl.gateway.headers import Fields, Hop, Trust, end_to_end, request_fields
from msctl.gateway.observe import NoObserver, Observer, method_label
from msctl.gateway.problems import Problem, ProblemError
from msctl.gateway.proxy import Proxy
from msctl.gateway.routes import Match, RouteTable, upstream_path
from msctl.gateway.target import host_name
from msctl.gateway.targets import Targets
from msctl.gateway.tracecontext import continue_trace
from msctl.gateway.upstream import Body, BrokenResponseError, Limits, Outgoing, too_large
from msctl.model import Balance, GatewaySpec, RouteSpec, TargetSnapshot, UpstreamPolicy

T = TypeVar("T")

CLIENT_GONE = 499
"""What is logged and counted where a client did not wait for its answer; it is never sent."""


class Gateway:
    """A reverse proxy over the instances in `registry`.

    `services` holds what each service's own configuration says about how it is to be talked to.
    """

    def __init__(
        self,
        spec: GatewaySpec,
        routes: Sequence[RouteSpec],
        registry: Registry,
        *,
        clock: AsyncClock,
        services: Mapping[str, UpstreamPolicy] | None = None,
        observer: Observer | None = None,
        log: logging.Logger | None = None,
        identity: str | None = None,
    ) -> None:
        self.spec = spec
        self.pseudonym = f"msctl-{identity or secrets.token_hex(4)}"
        self._clock = clock
        self._log = log or logging.getLogger("msctl.gateway")
        self._observer: Observer = observer or NoObserver()
        self._table = RouteTable(routes)
        self._trust = Trust.of(spec.trusted_peers)
        policies = services or {}
        self._plans = {
            rule.order: _Plan(spec, rule.spec, policies.get(rule.spec.service, UpstreamPolicy()))
            for rule in self._table.rules
        }
        self._services = tuple(
            dict.fromkeys(rule.spec.service for rule in self._table.rules if rule.spec.service)
        )
        self._targets = Targets(
            spec,
            registry,
            clock,
            balancer=Balancer(),
            observer=self._observer,
            log=self._log,
            pool_size=lambda service: _first(
                policies.get(service, UpstreamPolicy()).pool_size, spec.pool_size
            ),
        )
        self._proxy = Proxy(spec, self._targets, clock, self._observer, self._log)
        self._draining = False
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def startup(self) -> None:
        """Get ready to handle requests."""
        self._draining = False

    @property
    def ready(self) -> bool:
        return not self._draining

    def targets(self) -> tuple[TargetSnapshot, ...]:
        """Every instance behind a route: its breaker, its load, its connections."""
        return self._targets.snapshot(self._services)

    async def drain(self, timeout: float) -> None:
        """Finish what is in flight, for at most `timeout` seconds; WebSockets are told 1001.

        From now on the gateway is not ready, and every answer closes its connection.
        """
        self._draining = True
        if not self._active:
            return
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
        started = self._clock.monotonic()
        down = Downstream(request)
        if self._draining:
            down.keep_alive = False
        seen = _Seen()
        self._active += 1
        self._idle.clear()
        self._observer.request_started()
        try:
            try:
                return await self._serve(request, down, seen)
            except ProblemError as error:
                return await self._refuse(request, down, seen, error.problem)
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
            return await self._refuse(request, down, seen, problem)
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()
            self._observer.request_finished(
                seen.service,
                seen.route,
                method_label(request.method),
                down.status,
                self._clock.monotonic() - started,
            )

    async def _serve(self, request: web.Request, down: Downstream, seen: _Seen) -> web.StreamResponse:
        fields = request.raw_headers
        version = request.version
        admitted = admit(
            request.method, request.raw_path, (version.major, version.minor), fields, self.pseudonym
        )
        seen.request_id = (admitted.request_id or b"%032x" % random.getrandbits(128)).decode()
        if admitted.target.path == self.spec.ready_path:
            return await self._readiness(down, seen)
        match = self._route(request.method, admitted, fields)
        rule = match.rule
        seen.route, seen.service = rule.spec.path, rule.spec.service
        plan = self._plans[rule.order]
        if plan.limits.max_body and (admitted.length or 0) > plan.limits.max_body:
            raise ProblemError(too_large(plan.limits.max_body))
        out = self._outgoing(request, admitted, match, plan, down, seen)
        return await self._proxy.forward(out, plan.balance)

    def _route(self, method: str, admitted: Admitted, fields: Sequence[tuple[bytes, bytes]]) -> Match:
        target = admitted.target
        host = host_name(admitted.host)
        match = self._table.match(method, host, target.elements, fields)
        if match is not None:
            return match
        if target.asterisk:
            raise ProblemError(Problem(405, "There is nothing to ask about this server as a whole."))
        if allowed := self._table.methods(host, target.elements, fields):
            names = ", ".join(allowed)
            raise ProblemError(
                Problem(
                    405, f"{target.path} takes {names}, not {method}.", fields=((b"Allow", names.encode()),)
                )
            )
        nearest = self._table.nearest(target.path)
        hint = f" The nearest routes are {', '.join(nearest)}." if nearest else " The gateway has no routes."
        raise ProblemError(
            Problem(
                404, f"No route takes {method} {target.path}.{hint}", extra={"nearest_routes": list(nearest)}
            )
        )

    def _outgoing(
        self,
        request: web.Request,
        admitted: Admitted,
        match: Match,
        plan: _Plan,
        down: Downstream,
        seen: _Seen,
    ) -> Outgoing:
        target = admitted.target
        path = upstream_path(match.rule, target.path)
        fields = request_fields(request.raw_headers, self._hop(request, admitted), seen.request_id.encode())
        return Outgoing(
            service=match.rule.spec.service,
            method=request.method,
            target=path if target.query is None else f"{path}?{target.query}",
            host=admitted.host,
            fields=continue_trace(fields),
            body=Body(
                request.content, length=admitted.length, chunked=admitted.chunked, limit=plan.limits.max_body
            ),
            limits=plan.limits,
            down=down,
            deadline=Deadline(asyncio.get_running_loop()),
            respond=_responder(seen.request_id.encode()),
            upgrade=admitted.upgrade,
            expects_continue=admitted.expects_continue,
        )

    def _hop(self, request: web.Request, admitted: Admitted) -> Hop:
        version = request.version
        peer = peer_address(request)
        return Hop(
            peer,
            "https" if request.protocol.ssl_context else "http",
            admitted.host,
            self.pseudonym,
            f"{version.major}.{version.minor}",
            trusted=self._trust.trusts(peer),
            forwarded=self.spec.forwarded,
        )

    async def _readiness(self, down: Downstream, seen: _Seen) -> web.StreamResponse:
        if not self.ready:
            raise ProblemError(Problem(503, "The gateway is stopping.", retry_after=1.0))
        fields: Fields = [
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"X-Request-Id", seen.request_id.encode()),
        ]
        return await _answer(down, 200, b"OK", fields, b"ready\n")

    async def _refuse(
        self, request: web.Request, down: Downstream, seen: _Seen, problem: Problem
    ) -> web.StreamResponse:
        """Answer for an upstream, or because of the request itself."""
        if down.started:
            return down.abort()
        if problem.close:
            down.keep_alive = False
        if not seen.request_id:
            seen.request_id = f"{random.getrandbits(128):032x}"
        if problem.status >= 500:
            self._log.warning("%d %s %s: %s", problem.status, request.method, request.path, problem.detail)
        fields = problem.headers(self.pseudonym)
        fields.append((b"X-Request-Id", seen.request_id.encode()))
        body = problem.body(self.pseudonym, seen.request_id)
        return await _answer(down, problem.status, problem.title.encode(), fields, body)


class _Seen:
    """What has become known of a request, for its log line and its measures."""

    __slots__ = ("request_id", "route", "service")

    def __init__(self) -> None:
        self.route = ""
        self.service = ""
        self.request_id = ""


class _Plan:
    """A route with everything about it that does not depend on the request."""

    __slots__ = ("balance", "limits")

    def __init__(self, spec: GatewaySpec, route: RouteSpec, service: UpstreamPolicy) -> None:
        own = route.policy
        self.limits = Limits(
            _first(own.connect_timeout, service.connect_timeout, spec.connect_timeout),
            _first(own.response_timeout, service.response_timeout, spec.response_timeout),
            _first(own.idle_timeout, service.idle_timeout, spec.idle_timeout),
            _first(own.max_body, service.max_body, spec.max_body),
            _first(own.retries, service.retries, spec.retries),
            _first(own.pool_size, service.pool_size, spec.pool_size),
        )
        self.balance: Balance = _first(own.balance, service.balance, spec.balance)


def _first(*values: T | None) -> T:
    """The first that is set; the last always is."""
    return next(value for value in values if value is not None)


def _responder(request_id: bytes) -> Callable[[int, Fields], Fields]:
    def respond(_: int, fields: Fields) -> Fields:
        out = [field for field in end_to_end(fields) if field[0].lower() != b"x-request-id"]
        out.append((b"X-Request-Id", request_id))
        return out

    return respond


async def _answer(
    down: Downstream, status: int, reason: bytes, fields: Fields, body: bytes
) -> web.StreamResponse:
    """A response of the gateway's own."""
    bodiless = down.request.method == "HEAD"
    fields.append((b"Content-Length", b"%d" % len(body)))
    await down.start(status, reason, fields, length=len(body), bodiless=bodiless)
    return await down.finish(b"" if bodiless else body)


def peer_address(request: web.BaseRequest) -> str:
    """The address at the other end of the socket; empty for a Unix socket."""
    peer = request.protocol.peername
    return str(peer[0]) if isinstance(peer, (tuple, list)) and peer else ""

"""Runs the branches of a composed route concurrently and joins their responses into one document."""

from __future__ import annotations

import asyncio

from msctl.gateway.message.headers import Fields
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.message.response_fields import Edits
from msctl.gateway.own_request import own_request, while_client_waits
from msctl.gateway.policies.deadline import DeadlineTimer
from msctl.gateway.proxy import Proxy
from msctl.gateway.request.buffered import BufferedExchange
from msctl.gateway.request.forwarded import Plan
from msctl.gateway.request.gateway_exchange import GatewayExchange
from msctl.gateway.request.plan import Planner
from msctl.gateway.routing.compose import (
    MAX_BRANCH,
    Branch,
    branch_fields,
    branch_result,
    branch_targets,
    document,
)
from msctl.gateway.upstream.errors import BrokenResponseError
from msctl.http.date import http_date
from msctl.model.exchange import ClientGoneError, RequestError
from msctl.model.route_spec import ComposeSpec

COMPOSED_METHODS = "A composed document allows only GET and HEAD."


class Composer:
    """Answers requests to composed routes.

    A branch is routed like any other path. The composed route's filters have run; the filters of the
    branches' routes do not run.
    """

    def __init__(self, planner: Planner, proxy: Proxy, timer: DeadlineTimer) -> None:
        self._planner = planner
        self._proxy = proxy
        self._timer = timer

    async def answer(self, spec: ComposeSpec, plan: Plan, exchange: GatewayExchange, edits: Edits) -> None:
        """Answer a request; raises ProblemError: 405 unless GET or HEAD, 502 if every branch failed."""
        if plan.head.method not in ("GET", "HEAD"):
            raise ProblemError(Problem(405, COMPOSED_METHODS, fields=((b"Allow", b"GET, HEAD"),)))
        fields = branch_fields(plan.forwarded)
        targets = branch_targets(spec, plan.match.variables)
        with while_client_waits(exchange, self._timer):
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._branch(name, target, spec.timeout, plan, fields, exchange))
                    for name, target in targets.items()
                ]
        body, partly = document([task.result() for task in tasks])
        own: Fields = [(b"Content-Type", b"application/json"), *partly, (b"Date", http_date())]
        exchange.received.respond(200, b"OK", edits.apply(own), body)

    async def _branch(
        self,
        name: str,
        target: str,
        timeout: float,
        plan: Plan,
        fields: Fields,
        exchange: GatewayExchange,
    ) -> Branch:
        try:
            inner = self._planner.branch(target, plan, fields)
            memory = BufferedExchange(exchange.received, inner.head, MAX_BRANCH)
            out = own_request(exchange, memory, inner, self._timer)
            self._proxy.steer(out, fields)
            async with asyncio.timeout(timeout):
                await self._proxy.forward(out)
        except ProblemError as error:
            return Branch(name, error.problem.status, None, error.problem.detail)
        except TimeoutError:
            return Branch(name, 504, None, f"no response within {timeout:g} s")
        except (BrokenResponseError, ClientGoneError, RequestError) as error:
            return Branch(name, 502, None, str(error))
        if memory.too_long:
            return Branch(name, 502, None, f"the response is longer than {MAX_BRANCH} bytes")
        return branch_result(name, memory.status, memory.fields, memory.data)

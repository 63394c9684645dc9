"""Runs the branches of a composed route concurrently and joins their responses into one document."""

from __future__ import annotations

import asyncio

from aiohttp import web

from msctl.gateway.message.headers import Fields
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.message.response_fields import Edits
from msctl.gateway.message.trace_context import traceparent
from msctl.gateway.policies.deadline import Deadline, DeadlineTimer
from msctl.gateway.proxy import Proxy
from msctl.gateway.request.client_response import BufferedResponse, ClientGoneError, ClientResponse
from msctl.gateway.request.plan import Plan, Planner
from msctl.gateway.routing.compose import (
    MAX_BRANCH,
    Branch,
    branch_fields,
    branch_result,
    branch_targets,
    document,
)
from msctl.gateway.upstream.base import NO_BODY, BrokenResponseError, UpstreamRequest
from msctl.model.project import ComposeSpec


class Composer:
    """Answers requests to composed routes.

    A branch is routed like any other path. The composed route's filters have run; the filters of the
    branches' routes do not run.
    """

    def __init__(self, planner: Planner, proxy: Proxy, timer: DeadlineTimer) -> None:
        self._planner = planner
        self._proxy = proxy
        self._timer = timer

    async def answer(
        self, spec: ComposeSpec, plan: Plan, client: ClientResponse, edits: Edits
    ) -> web.StreamResponse:
        """Answer a request; raises ProblemError: 405 unless GET or HEAD, 502 if every branch failed."""
        if plan.head.method not in ("GET", "HEAD"):
            raise ProblemError(
                Problem(
                    405, "A composed document allows only GET and HEAD.", fields=((b"Allow", b"GET, HEAD"),)
                )
            )
        fields = branch_fields(plan.forwarded)
        targets = branch_targets(spec, plan.match.variables)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    self._branch(name, target, spec.timeout, plan, fields, client.request, edits)
                )
                for name, target in targets.items()
            ]
        body, partial = document([task.result() for task in tasks])
        own: Fields = [(b"Content-Type", b"application/json"), *partial]
        return await client.answer(200, b"OK", edits.apply(own), body)

    async def _branch(
        self,
        name: str,
        target: str,
        timeout: float,
        plan: Plan,
        fields: Fields,
        request: web.Request,
        edits: Edits,
    ) -> Branch:
        memory = BufferedResponse(request, MAX_BRANCH)
        memory.request_id = edits.request_id
        try:
            inner = self._planner.branch(target, plan, fields)
            deadline, parent = Deadline(self._timer), traceparent(plan.trace)
            out = UpstreamRequest(inner, NO_BODY, memory, deadline, edits.request_id, parent)
            async with asyncio.timeout(timeout):
                await self._proxy.forward(out)
        except ProblemError as error:
            return Branch(name, error.problem.status, None, error.problem.detail)
        except TimeoutError:
            return Branch(name, 504, None, f"no response within {timeout:g} s")
        except (BrokenResponseError, ClientGoneError) as error:
            return Branch(name, 502, None, str(error))
        return branch_result(name, memory.status, memory.fields, memory.body)

"""Traces on the page, of this run and of earlier ones; who called whom; runs and their comparison."""

from __future__ import annotations

from aiohttp import web

from msctl.dashboard.responses import json_response, number_parameter, text_parameter
from msctl.errors import UsageError
from msctl.model.traces import ObservedCalls, TraceQuery
from msctl.model.views import RunView, TraceView

MAX_SEARCH = 200
"""Characters of a text that traces are searched for."""


class TracePages:
    """The handlers of traces and runs. `run` is the name of the run that is under way."""

    def __init__(self, traces: TraceView | None, runs: RunView | None, run: str) -> None:
        self._traces = traces
        self._runs = runs
        self._run = run

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/traces", self._list),
            web.get("/api/traces/{id}", self._show),
            web.get("/api/calls", self._calls),
            web.get("/api/runs", self._list_runs),
            web.get("/api/runs/compare", self._compare),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        query = TraceQuery(
            services=tuple(request.query.getall("service", [])),
            errors=request.query.get("errors") == "1",
            min_duration_s=number_parameter(request, "min_ms", 0) / 1000,
            limit=number_parameter(request, "limit", 100),
            status=request.query.get("status", ""),
            text=request.query.get("text", "")[:MAX_SEARCH],
        )
        if (run := self._earlier(request)) is not None:
            return json_response(await self._required_runs().traces_of(run, query))
        return json_response([] if self._traces is None else await self._traces.traces(query))

    async def _show(self, request: web.Request) -> web.StreamResponse:
        trace_id = request.match_info["id"]
        if (run := self._earlier(request)) is not None:
            return json_response(await self._required_runs().trace_of(run, trace_id))
        if self._traces is None:
            raise web.HTTPNotFound(text="this stack keeps no traces\n")
        try:
            return json_response(await self._traces.trace(trace_id))
        except UsageError:
            # A trace of this run that memory no longer holds may have been recorded.
            if self._runs is None or not self._run:
                raise
        return json_response(await self._runs.trace_of(self._run, trace_id))

    async def _calls(self, _request: web.Request) -> web.StreamResponse:
        return json_response(ObservedCalls((), 0) if self._traces is None else await self._traces.calls())

    async def _list_runs(self, _request: web.Request) -> web.StreamResponse:
        return json_response(await self._required_runs().runs())

    async def _compare(self, request: web.Request) -> web.StreamResponse:
        before, after = text_parameter(request, "before"), text_parameter(request, "after")
        return json_response(await self._required_runs().compare(before, after))

    def _earlier(self, request: web.Request) -> str | None:
        """The run that is asked for; None for the one under way."""
        return request.query.get("run") if request.query.get("run") not in (None, "", self._run) else None

    def _required_runs(self) -> RunView:
        if self._runs is None:
            raise web.HTTPNotFound(text="this stack records no runs\n")
        return self._runs

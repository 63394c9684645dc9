"""Serves SystemView over HTTP on the control socket.

Responses are JSON; a stream has one JSON document per line. An MsctlError is sent as its parts and raised
again by the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from msctl.control.listening import BACKLOG, listen
from msctl.control.peer import peer_uid
from msctl.errors import ExitCode, MsctlError, UsageError
from msctl.faults.spec import FaultSpec
from msctl.faults.view import FaultView
from msctl.files import describe_user, is_trusted_user
from msctl.model.events import LogQuery
from msctl.model.routing import RouteView
from msctl.model.traces import TraceQuery
from msctl.model.views import SystemView, TraceView, VariableView

log = logging.getLogger("msctl.control")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ServiceNames(msgspec.Struct, forbid_unknown_fields=True):
    """The body of start, stop and restart."""

    services: tuple[str, ...] = ()
    deps: bool = True


class InstanceCounts(msgspec.Struct, forbid_unknown_fields=True):
    """The body of scale: the number of instances per service."""

    counts: dict[str, int]


class QueueName(msgspec.Struct, forbid_unknown_fields=True):
    """The body of the queue verbs."""

    name: str


class ExplainedRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of explain: the request to explain."""

    method: str
    target: str
    headers: dict[str, str] = {}


class NewFaults(msgspec.Struct, forbid_unknown_fields=True):
    """The body of fault add."""

    faults: tuple[FaultSpec, ...]
    force: bool = False


class FaultIds(msgspec.Struct, forbid_unknown_fields=True):
    """The body of fault clear; none means all."""

    ids: tuple[str, ...] = ()


class Shutdown(msgspec.Struct, forbid_unknown_fields=True):
    """The body of shutdown; `timeout` in seconds."""

    timeout: float | None = None


class ControlServer:
    """Answers on `path` (mode 0600) from `start` to `stop`; `listening` is its socket, if it exists."""

    def __init__(
        self,
        view: SystemView,
        path: Path,
        *,
        listening: socket.socket | None = None,
        traces: TraceView | None = None,
        routes: RouteView | None = None,
        variables: VariableView | None = None,
        definitions: Callable[[], Mapping[str, Any] | None] = lambda: None,
        faults: FaultView | None = None,
    ) -> None:
        """`definitions` gives those of the embedded broker, None without one."""
        self._view = view
        self._listening = listening
        self._server: asyncio.Server | None = None
        self._trace_view = traces
        self._route_view = routes
        self._variable_view = variables
        self._broker_definitions = definitions
        self._fault_view = faults
        self._path = path
        self._runner = web.AppRunner(
            self._application(), access_log=None, shutdown_timeout=1.0, handler_cancellation=True
        )

    async def start(self) -> None:
        """Accept connections, also those that came before."""
        await self._runner.setup()
        assert self._runner.server is not None  # noqa: S101 - setup() makes it
        listening = self._listening or listen(self._path)
        listening.setblocking(False)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._runner.server, sock=listening, backlog=BACKLOG)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[_own_user_only, _errors_as_json])
        app.add_routes(
            [
                web.get("/v1/snapshot", self._snapshot),
                web.get("/v1/events", self._events),
                web.get("/v1/logs", self._logs),
                web.get("/v1/routes", self._routes),
                web.post("/v1/routes/explain", self._explain),
                web.get("/v1/variables", self._variables),
                web.get("/v1/definitions", self._definitions),
                web.get("/v1/traces", self._traces),
                web.get("/v1/traces/{id}", self._trace),
                web.post("/v1/start", self._start),
                web.post("/v1/apply", self._apply),
                web.post("/v1/stop", self._stop),
                web.post("/v1/restart", self._restart),
                web.post("/v1/scale", self._scale),
                web.post("/v1/reload", self._reload),
                web.post("/v1/queues/peek", self._peek_queue),
                web.post("/v1/queues/purge", self._purge_queue),
                web.post("/v1/queues/delete", self._delete_queue),
                web.get("/v1/faults", self._faults),
                web.post("/v1/faults", self._add_faults),
                web.post("/v1/faults/clear", self._clear_faults),
                web.post("/v1/shutdown", self._shutdown),
            ]
        )
        return app

    async def _snapshot(self, _request: web.Request) -> web.StreamResponse:
        return _json(await self._view.snapshot())

    async def _variables(self, request: web.Request) -> web.StreamResponse:
        if self._variable_view is None:
            raise web.HTTPNotFound
        return _json(await self._variable_view.variables(request.query.get("service")))

    async def _definitions(self, _request: web.Request) -> web.StreamResponse:
        return _json(self._broker_definitions())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await _stream(request, self._view.events())

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        query = LogQuery(
            services=tuple(request.query.getall("service", [])),
            tail=int(request.query["tail"]) if "tail" in request.query else None,
            follow=request.query.get("follow") == "1",
            since=float(request.query["since"]) if "since" in request.query else None,
            stream=request.query.get("stream", ""),
            level=request.query.get("level", ""),
        )
        return await _stream(request, self._view.logs(query))

    async def _traces(self, request: web.Request) -> web.StreamResponse:
        query = TraceQuery(
            services=tuple(request.query.getall("service", [])),
            errors=request.query.get("errors") == "1",
            min_duration_s=float(request.query.get("min", "0")),
            limit=int(request.query.get("limit", "50")),
            status=request.query.get("status", ""),
            text=request.query.get("text", ""),
        )
        return _json(await self._traces_view().traces(query))

    async def _trace(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._traces_view().trace(request.match_info["id"]))

    async def _routes(self, _request: web.Request) -> web.StreamResponse:
        return _json(self._routes_view().routes())

    async def _explain(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, ExplainedRequest)
        return _json(self._routes_view().explain(body.method, body.target, body.headers))

    def _routes_view(self) -> RouteView:
        if self._route_view is None:
            raise UsageError("this stack has no routes")
        return self._route_view

    def _traces_view(self) -> TraceView:
        if self._trace_view is None:
            raise UsageError("this stack keeps no traces")
        return self._trace_view

    async def _start(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, ServiceNames)
        return _json(await self._view.start(body.services, deps=body.deps))

    async def _apply(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, ServiceNames)
        await self._view.apply(body.services)
        return web.Response(status=204)

    async def _stop(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, ServiceNames)
        return _json(await self._view.stop(body.services))

    async def _restart(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, ServiceNames)
        return _json(await self._view.restart(body.services, deps=body.deps))

    async def _scale(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, InstanceCounts)
        return _json(await self._view.scale(body.counts))

    async def _reload(self, _request: web.Request) -> web.StreamResponse:
        return _json(await self._view.reload())

    async def _peek_queue(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, QueueName)
        return _json(await self._view.peek_queue(body.name))

    async def _purge_queue(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, QueueName)
        return _json(await self._view.purge_queue(body.name))

    async def _delete_queue(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, QueueName)
        return _json(await self._view.delete_queue(body.name))

    async def _faults(self, _request: web.Request) -> web.StreamResponse:
        return _json(self._faults_view().active())

    async def _add_faults(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, NewFaults)
        return _json(await self._faults_view().add(body.faults, force=body.force))

    async def _clear_faults(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, FaultIds)
        return _json(await self._faults_view().clear(body.ids))

    def _faults_view(self) -> FaultView:
        if self._fault_view is None:
            raise UsageError("this stack has no faults")
        return self._fault_view

    async def _shutdown(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, Shutdown)
        await self._view.shutdown(body.timeout)
        return web.Response(status=204)


async def _body(request: web.Request, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=kind)
    except msgspec.DecodeError as error:
        raise UsageError(f"the request to {request.path} is malformed: {error}") from error


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


async def _stream(request: web.Request, items: AsyncIterator[object]) -> web.StreamResponse:
    """Send one line per item until they end or the client disconnects (which cancels the handler)."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    with contextlib.suppress(ConnectionResetError):
        async for item in items:
            await response.write(msgspec.json.encode(item) + b"\n")
    return response


@web.middleware
async def _own_user_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse connections of other users; the mode of the socket and of its folder refuse them first."""
    connection = None if request.transport is None else request.transport.get_extra_info("socket")
    uid = None if connection is None else peer_uid(connection)
    if uid is not None and not is_trusted_user(uid):
        log.warning("refused a control request of %s", describe_user(uid))
        return _json(_error_document(MsctlError("this stack belongs to another user")), status=403)
    return await handler(request)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except MsctlError as error:
        return _json(_error_document(error), status=409)
    except web.HTTPException:
        raise
    except Exception as error:
        log.exception("the control request %s %s failed", request.method, request.path)
        return _json(_error_document(MsctlError(f"internal error: {error!r}")), status=500)


def _error_document(error: MsctlError) -> dict[str, object]:
    return {"message": error.message, "hint": error.hint, "exit_code": int(ExitCode(error.exit_code))}

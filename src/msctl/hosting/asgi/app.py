"""An ASGI 3 application as a hosted application."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

from msctl.clock import AsyncClock
from msctl.hosting.asgi.http import HttpRequest
from msctl.hosting.asgi.lifespan import Application, Lifespan
from msctl.hosting.asgi.root_path import expects_bare_path
from msctl.hosting.asgi.route_pattern import route_pattern
from msctl.hosting.asgi.scope import Scope, http_scope, websocket_scope
from msctl.hosting.asgi.websocket import ClientDisconnected, WebSocketSession
from msctl.hosting.in_flight import InFlight
from msctl.hosting.service_log import ServiceLog, log_as
from msctl.hosting.standard_answers import respond_failed, respond_unavailable
from msctl.hosting.trusted_proxies import trusted_proxies
from msctl.model.current_context import current_context
from msctl.model.exchange import Exchange, ResponseCutError
from msctl.model.service_context import ServiceContext
from msctl.model.websocket_spec import WebSocketSpec
from msctl.telemetry.logs.frames import serves
from msctl.telemetry.logs.hub import LogHub, current_service


class AsgiApp:
    """Serves exchanges with an ASGI application; each request has a task and a context of its own."""

    def __init__(
        self,
        application: Application,
        context: ServiceContext,
        *,
        websocket: WebSocketSpec | None = None,
        logs: LogHub,
        clock: AsyncClock,
    ) -> None:
        self._application = application
        self._bare_path = expects_bare_path(application)
        self._context = context
        self._service = context.name
        self._log = ServiceLog(logs, context.name)
        self._trusts = trusted_proxies(context.env)
        self._state: dict[str, Any] = {"msctl": context}
        self._lifespan = Lifespan(application, self._state, self._log.line)
        self._requests = InFlight(clock)
        self._websocket = websocket or WebSocketSpec()
        self._sockets: set[WebSocketSession] = set()
        self._loop = asyncio.get_running_loop()
        self._draining = False

    async def startup(self) -> None:
        """Raises LifespanFailedError."""
        with log_as(self._service):
            await self._lifespan.startup()

    async def handle(self, exchange: Exchange) -> None:
        """Serve an exchange; returns when its response is complete.

        Raises RequestError for a broken body, ConnectionError for a response that was aborted.
        """
        if self._draining:
            respond_unavailable(exchange, self._service)
        elif exchange.head.upgrade == "websocket":
            await self._serve_websocket(exchange)
        else:
            await self._serve_http(exchange)

    async def drain(self, timeout: float) -> None:
        """Refuse new requests, close WebSockets; wait up to `timeout` seconds for the rest, then cancel."""
        self._draining = True
        for socket in list(self._sockets):
            socket.go_away(self._service)
        await self._requests.drain(timeout)
        for socket in list(self._sockets):
            socket.abandon()

    async def cleanup(self) -> None:
        self._draining = True
        with log_as(self._service):
            await self._lifespan.shutdown()

    # --- HTTP -------------------------------------------------------------------------------------

    async def _serve_http(self, exchange: Exchange) -> None:
        scope = http_scope(exchange, self._state, self._trusts, self._bare_path)
        request = HttpRequest(exchange, scope, self._loop)
        task = _begin(self._run_http(exchange, scope, request), self._loop)
        if not task.done():
            self._requests.add_until_done(task)
        if request.ended.done() and request.ended.exception() is None:
            return
        try:
            await request.ended
        except asyncio.CancelledError:
            request.abandon()
            task.cancel()
            raise

    @serves
    async def _run_http(self, exchange: Exchange, scope: Scope, request: HttpRequest) -> None:
        msctl_service = self._service
        current_service.set(msctl_service)
        current_context.set(self._context)
        problem: str | None = None
        try:
            result = await self._application(scope, request.receive, request.send)
        except asyncio.CancelledError as error:
            if self._requests.expired and not request.gone and request.take_back():
                respond_unavailable(exchange, msctl_service)
            elif not request.complete and not request.gone:
                self._failed(exchange, request, scope, error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - an application may raise anything
            if not request.refused:
                self._failed(exchange, request, scope, error)
        else:
            if result is not None:
                problem = f"returned {result!r} instead of None"
            elif not request.gone and not request.complete:
                problem = (
                    "returned without " + ("completing" if request.started else "starting") + " its response"
                )
            if problem is not None:
                self._log.line(f"{scope['method']} {scope['path']}: the ASGI application {problem}")
                self._cut(exchange, request)
        finally:
            request.end()

    def _failed(self, exchange: Exchange, request: HttpRequest, scope: Scope, error: BaseException) -> None:
        self._log.failed(f"{scope['method']} {scope['path']}", error)
        self._cut(exchange, request)

    def _cut(self, exchange: Exchange, request: HttpRequest) -> None:
        """Answer in the application's place, or abort a response that it has begun."""
        if request.gone or request.complete:
            return
        if request.take_back():
            respond_failed(exchange)
        else:
            request.cut(ResponseCutError(f"{self._service} failed during its response"))

    # --- WebSocket --------------------------------------------------------------------------------

    async def _serve_websocket(self, exchange: Exchange) -> None:
        session = WebSocketSession(exchange, self._loop, self._websocket)
        if session.refuse_handshake():
            return
        scope = websocket_scope(exchange, self._state, self._trusts, self._bare_path)
        task = _begin(self._run_websocket(exchange, scope, session), self._loop)
        self._requests.add_until_done(task)
        self._sockets.add(session)
        try:
            await session.ended
        except asyncio.CancelledError:
            session.abandon()
            task.cancel()
            raise
        finally:
            self._sockets.discard(session)

    @serves
    async def _run_websocket(self, exchange: Exchange, scope: Scope, session: WebSocketSession) -> None:
        msctl_service = self._service
        current_service.set(msctl_service)
        current_context.set(self._context)
        failed = True
        try:
            result = await self._application(scope, session.receive, session.send)
            failed = result is not None
            problem = session.unanswered if result is None else f"returned {result!r} instead of None"
            if problem is not None:
                self._log.line(f"WebSocket {scope['path']}: the ASGI application {problem}")
        except ClientDisconnected:
            failed = False
        except asyncio.CancelledError as error:
            if not self._requests.expired and not session.closed:
                self._log.failed(f"WebSocket {scope['path']}", error)
            elif not session.started and not exchange.disconnected:
                respond_unavailable(exchange, msctl_service)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - an application may raise anything
            self._log.failed(f"WebSocket {scope['path']}", error)
        finally:
            exchange.route = route_pattern(scope)
            session.finish(failed=failed)


def _begin(work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
    """Run `work` as a task, from Python 3.12 on without waiting for the loop's next turn."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True)
    return loop.create_task(work)

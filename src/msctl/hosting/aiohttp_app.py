"""An aiohttp application as a hosted application.

The application is unmodified: it gets aiohttp's own request objects and answers with aiohttp's own responses
(see aiohttp_request.py, aiohttp_response.py; nothing else knows the server side of aiohttp). Its handlers
are not cancelled when the client leaves, as under aiohttp's own server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web

from msctl.clock import AsyncClock
from msctl.hosting.aiohttp_connection import Connection
from msctl.hosting.aiohttp_request import BodyLimits, HostedRequest, limits_of, make_request
from msctl.hosting.aiohttp_response import ShortBodyError, respond_complete
from msctl.hosting.in_flight import InFlight
from msctl.hosting.service_log import ServiceLog, log_as, shorten
from msctl.hosting.trusted_proxies import trusted_proxies
from msctl.http.date import http_date
from msctl.http.websocket_frames import GOING_AWAY
from msctl.model.current_context import current_context
from msctl.model.exchange import Exchange, Field, RequestError, ResponseCutError
from msctl.model.service_context import ServiceContext
from msctl.telemetry.logs.frames import serves
from msctl.telemetry.logs.hub import LogHub, current_service
from msctl.telemetry.logs.traceback import user_traceback

_FAILED = "500 Internal Server Error\n\nServer got itself in trouble"


class AiohttpApp:
    """An aiohttp Application as a HostedApp."""

    def __init__(
        self, application: web.Application, context: ServiceContext, *, logs: LogHub, clock: AsyncClock
    ) -> None:
        self._context = context
        self._service = context.name
        self._log = ServiceLog(logs, context.name)
        self._loop = asyncio.get_running_loop()
        self._runner: web.AppRunner | None = web.AppRunner(application, access_log=None, handle_signals=False)
        self._application: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self._limits = BodyLimits()
        self._trusts = trusted_proxies(context.env)
        self._requests = InFlight(clock)
        self._sockets: set[Connection] = set()
        """The connections that asked for an upgrade."""
        self._draining = False

    async def startup(self) -> None:
        if self._runner is None:
            raise RuntimeError("the application was stopped before it was started")
        with log_as(self._service):
            await self._runner.setup()
        server = self._runner.server
        if server is not None:
            self._application = cast(Any, server.request_handler)
            self._limits = limits_of(server)

    @serves
    async def handle(self, exchange: Exchange) -> None:
        """Serve an exchange. The application's exceptions become a 500 and a traceback in its log.

        Raises RequestError if the request is at fault, ConnectionError if its connection cannot be used
        any more, and CancelledError.
        """
        msctl_service = self._service
        # Without the loop, Python 3.11 calls getpid() to find it.
        application, task = self._application, asyncio.current_task(self._loop)
        if application is None or task is None or self._draining:
            self._refuse(exchange)
            return
        self._requests.add(task)
        token = current_service.set(msctl_service)
        current_context.set(self._context)
        request: HostedRequest | None = None
        try:
            request, connection = make_request(exchange, self._loop, task, self._limits, self._trusts)
            if exchange.head.upgrade is not None:
                self._sockets.add(connection)
            try:
                response: object = await application(request)
            except web.HTTPException as raised:
                response = _plain(raised)
            # isinstance is slow for aiohttp's responses, which are abstract mappings.
            if type(response) is not web.Response or not respond_complete(response, request, exchange):
                await _respond(response, request, exchange)
        except asyncio.CancelledError as error:
            if not task.cancelling():
                # The handler awaited something that was cancelled.
                await self._failed(exchange, request, error)
            elif not self._requests.expired or task.uncancel() or exchange.status:
                raise
            else:
                self._refuse(exchange)
        except (RequestError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            if isinstance(error, ConnectionError) and exchange.disconnected:
                raise  # the client closed the connection
            await self._failed(exchange, request, error)
        finally:
            current_service.reset(token)
            if request is not None:
                connection.end()
                self._sockets.discard(connection)
                exchange.route = _route_of(request)
                if request.posted:
                    await request.close_files()
            self._requests.discard(task)

    async def drain(self, timeout: float) -> None:
        self._draining = True
        if self._runner is not None:
            await self._quietly(self._runner.app.shutdown())
        for connection in list(self._sockets):
            connection.send_close(GOING_AWAY)
        await self._requests.drain(timeout)

    async def cleanup(self) -> None:
        self._draining = True
        if self._runner is not None:
            runner, self._runner = self._runner, None
            self._application = None
            # Not runner.cleanup(), which sends on_shutdown a second time.
            await self._quietly(runner.app.cleanup())

    async def _failed(self, exchange: Exchange, request: HostedRequest | None, error: BaseException) -> None:
        head = exchange.head
        self._log.failed(f"{head.method} {head.target.partition('?')[0]}", error)
        if exchange.finished and exchange.status != 101 and not isinstance(error, ShortBodyError):
            return  # after a complete response
        if exchange.status:
            # A clean end would make a truncated body look complete.
            exchange.abort()
            raise ResponseCutError(f"{self._service} failed during its response") from error
        # The response of aiohttp's own server, with what `on_response_prepare` adds, such as fields for CORS.
        if request is not None:
            try:
                await _respond(web.Response(status=500, text=_FAILED), request, exchange)
            except (Exception, SystemExit) as second:  # noqa: BLE001 - an application may raise anything
                self._log.failed("on_response_prepare", second)
        if not exchange.status:
            _respond_text(exchange, 500, _FAILED)

    def _refuse(self, exchange: Exchange) -> None:
        _respond_text(exchange, 503, f"503 {self._service} is stopping\n", (b"Retry-After", b"1"))

    async def _quietly(self, step: Awaitable[None]) -> None:
        try:
            with log_as(self._service):
                await step
        except (Exception, SystemExit) as error:  # noqa: BLE001 - must not keep the stack from stopping
            self._log.line(shorten(user_traceback(error)))


async def _respond(response: object, request: HostedRequest, exchange: Exchange) -> None:
    """Send a response in aiohttp's own way."""
    if not isinstance(response, web.StreamResponse):
        raise TypeError(f"the handler of {request.path} returned {response!r}, not a response")
    if response.prepared and not exchange.status:
        raise TypeError("the handler returned a response that had been sent before")
    await response.prepare(request)
    await response.write_eof()


def _respond_text(exchange: Exchange, status: int, text: str, *more: Field) -> None:
    fields = [(b"Content-Type", b"text/plain; charset=utf-8"), *more, (b"Date", http_date())]
    exchange.respond(status, HTTPStatus(status).phrase.encode(), fields, text.encode())


def _route_of(request: web.Request) -> str:
    """Return the pattern that matched the request, such as /users/{id}; empty for none."""
    try:
        resource = request.match_info.route.resource
    except (AssertionError, AttributeError):
        return ""  # no route was looked for
    return "" if resource is None else resource.canonical


def _plain(error: web.HTTPException) -> web.Response:
    """Return the response of a raised HTTPException."""
    response = web.Response(status=error.status, reason=error.reason, headers=error.headers, body=error.body)
    response.cookies.update(error.cookies)
    return response

"""Hosted applications: aiohttp applications that run in the stack's process.

Listeners and the gateway serve a `HostedApp`; `AiohttpApp` implements it for an import path. An error
of the application becomes a 500 and a traceback in its own log.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from aiohttp import web

from msctl.aio import first_of
from msctl.clock import AsyncClock
from msctl.hosting.decompression import decompress_body
from msctl.hosting.modules import Loader
from msctl.model.endpoint import Handler
from msctl.model.project import ServiceContext
from msctl.model.views import MessagingObserver
from msctl.telemetry.logs.frames import serves
from msctl.telemetry.logs.hub import LogHub, current_service
from msctl.telemetry.tracing.requests import ROUTE

_TRACEBACK_LINES = 40


class HostedApp(Protocol):
    """An application that can be served in this process."""

    async def startup(self) -> None:
        """Prepare for requests; an exception is the reason why the service cannot start."""
        ...

    async def handle(self, request: web.Request) -> web.StreamResponse: ...

    async def drain(self, timeout: float) -> None:
        """Refuse new requests; wait up to `timeout` seconds for those in flight, then cancel them."""
        ...

    async def cleanup(self) -> None:
        """Release all resources; called once, also after `startup` raised."""
        ...


HostedFactory = Callable[[ServiceContext], HostedApp | Awaitable[HostedApp]]


class Instrument(Protocol):
    """Wraps the handlers of requests and messages for telemetry."""

    def direct(self, service: str, instance: str, handle: Handler) -> Handler:
        """Wrap the handler behind a service's own listener."""
        ...

    def messages(self, service: str) -> MessagingObserver | None: ...


class NoInstrument:
    """An Instrument that does nothing."""

    def direct(self, service: str, instance: str, handle: Handler) -> Handler:  # noqa: ARG002 - as above
        return handle

    def messages(self, service: str) -> MessagingObserver | None:  # noqa: ARG002 - as above
        return None


class NotAnApplicationError(Exception):
    """An import path names neither an aiohttp application nor a factory of one."""


class AiohttpApp:
    """An aiohttp Application as a HostedApp.

    `target` is `module:attribute`: an Application, or a sync or async factory of one that takes
    no argument or a ServiceContext.
    """

    def __init__(
        self, target: str, context: ServiceContext, *, loader: Loader, logs: LogHub, clock: AsyncClock
    ) -> None:
        self._target = target
        self._context = context
        self._loader = loader
        self._logs = logs
        self._clock = clock
        self._runner: web.AppRunner | None = None
        self._handler: Handler | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        """The tasks of requests in flight."""
        self._expired: set[asyncio.Task[Any]] = set()
        """The tasks cancelled at the end of the drain timeout."""
        self._draining = False
        self._idle: asyncio.Event | None = None
        """Set when the last request in flight ends; exists only while draining."""
        self.max_body = 1024**2
        """The application's own limit on request bodies, in bytes."""

    async def startup(self) -> None:
        with log_as(self._context.name):
            # In a thread, so that a slow import does not stall other services.
            attribute = await asyncio.to_thread(self._loader.load, self._target)
            application = await _build(attribute, self._target, self._context)
            self._runner = web.AppRunner(application, access_log=None, handle_signals=False)
            await self._runner.setup()
            server = self._runner.server
            self._handler = None if server is None else server.request_handler
            # aiohttp has no public name for an Application's limit.
            self.max_body = getattr(application, "_client_max_size", self.max_body)

    @serves
    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Return the application's response. Its exceptions become a 500 and a traceback in its log.

        Raises only CancelledError, and ConnectionError if the connection cannot be used any more.
        """
        msctl_service = self._context.name
        handler, task = self._handler, asyncio.current_task()
        if handler is None or task is None or self._draining:
            return _unavailable(msctl_service, "is stopping")
        self._tasks.add(task)
        # Not a clone: the caller's request may be a subclass with hooks, and a copy is expensive.
        request._client_max_size = self.max_body
        token = current_service.set(msctl_service)
        try:
            try:
                if "Content-Encoding" in request.headers:
                    decompress_body(request)
                response: object = await handler(request)
            except web.HTTPException as raised:
                response = _plain(raised)
            # isinstance is slow for aiohttp's responses, which are abstract mappings.
            if type(response) is not web.Response and not isinstance(response, web.StreamResponse):
                raise TypeError(f"the handler of {request.path} returned {response!r}, not a response")
            return response
        except asyncio.CancelledError:
            if task in self._expired and task.uncancel() == 0 and not _has_started(request):
                return _unavailable(msctl_service, "is stopping")
            raise
        except ConnectionError:
            if request.transport is None or request.transport.is_closing():
                raise  # the client closed the connection
            return self._failed(request)
        except web.RequestPayloadError as error:
            if _has_started(request):
                return self._failed(request)
            return web.Response(status=400, text=f"400 the request's body cannot be read: {error}\n")
        except (Exception, SystemExit):  # noqa: BLE001 - handlers may raise anything
            return self._failed(request)
        finally:
            current_service.reset(token)
            if type(request) is web.Request:
                # From its own listener; behind the gateway, the gateway's route is reported.
                request[ROUTE] = _route_of(request)
            self._tasks.discard(task)
            if self._idle is not None and not self._tasks:
                self._idle.set()

    async def drain(self, timeout: float) -> None:
        self._draining = True
        if self._runner is not None:
            await self._quietly(self._runner.app.shutdown())
        self._idle = idle = asyncio.Event()
        if self._tasks:
            await first_of(idle.wait(), self._clock.sleep(timeout))
        if self._tasks:
            for task in self._tasks:
                self._expired.add(task)
                task.cancel()
            # A handler that ignores its cancellation is abandoned.
            idle.clear()
            await first_of(idle.wait(), self._clock.sleep(1.0))

    async def cleanup(self) -> None:
        self._draining = True
        if self._runner is not None:
            runner, self._runner = self._runner, None
            self._handler = None
            # Not runner.cleanup(), which sends on_shutdown a second time.
            await self._quietly(runner.app.cleanup())

    def _failed(self, request: web.Request) -> web.StreamResponse:
        error = traceback.format_exc()
        self._logs.append(self._context.name, f"{request.method} {request.path} failed", "error")
        self._logs.append(self._context.name, shorten(error), "error")
        if _has_started(request):
            # A clean end would make a truncated body look complete.
            raise ConnectionResetError(f"{self._context.name} failed during its response")
        # The response of aiohttp's own server, so that isolation makes no difference.
        return web.Response(status=500, text="500 Internal Server Error\n\nServer got itself in trouble")

    async def _quietly(self, step: Awaitable[None]) -> None:
        try:
            with log_as(self._context.name):
                await step
        except (Exception, SystemExit):  # noqa: BLE001 - must not keep the stack from stopping
            self._logs.append(self._context.name, shorten(traceback.format_exc()), "error")


@contextmanager
def log_as(service: str) -> Iterator[None]:
    """Attribute log lines of this context, and of tasks started in it, to `service`."""
    token = current_service.set(service)
    try:
        yield
    finally:
        current_service.reset(token)


def describe(error: BaseException) -> str:
    """Return an exception in one line: "ModuleNotFoundError: No module named 'shop'"."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def shorten(text: str) -> str:
    """Return the last lines of a traceback, and the number of lines omitted."""
    lines = text.rstrip().splitlines()
    omitted = len(lines) - _TRACEBACK_LINES
    if omitted <= 0:
        return "\n".join(lines)
    return "\n".join([f"({omitted} lines omitted)", *lines[omitted:]])


async def _build(attribute: object, target: str, context: ServiceContext) -> web.Application:
    if callable(attribute) and not isinstance(attribute, web.Application):
        made = attribute(context) if _takes_argument(attribute) else attribute()
        attribute = await made if inspect.isawaitable(made) else made
    if not isinstance(attribute, web.Application):
        raise NotAnApplicationError(f"{target} is {attribute!r}, not an aiohttp.web.Application")
    return attribute


def _takes_argument(factory: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some C callables have no signature
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in positional and p.default is p.empty for p in parameters)


def _route_of(request: web.Request) -> str:
    """Return the pattern that matched the request, such as /users/{id}; empty for none."""
    # Private: the public property fails before a route was resolved.
    found = request._match_info
    resource = None if found is None else found.route.resource
    return "" if resource is None else resource.canonical


def _plain(error: web.HTTPException) -> web.Response:
    """Return the response of a raised HTTPException."""
    response = web.Response(status=error.status, reason=error.reason, headers=error.headers, body=error.body)
    response.cookies.update(error.cookies)
    return response


def _has_started(request: web.Request) -> bool:
    return bool(getattr(request.writer, "output_size", 0))


def _unavailable(service: str, why: str) -> web.Response:
    return web.Response(status=503, text=f"503 {service} {why}\n", headers={"Retry-After": "1"})

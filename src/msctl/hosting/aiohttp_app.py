"""Hosted applications: aiohttp applications that live in the stack's own process.

What a listener or the gateway can serve is a `HostedApp`; `AiohttpApp` makes one of an import
path. A fault of the application ends in its own log and in an answer of 500, never elsewhere.
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
from msctl.hosting.decompression import inflate
from msctl.hosting.modules import Loader
from msctl.model.project import ServiceContext
from msctl.model.snapshots import MessagingObserver
from msctl.telemetry.logs.frames import serves
from msctl.telemetry.logs.hub import LogHub, current_service
from msctl.telemetry.tracing.requests import ROUTE

_TRACEBACK_LINES = 40


class HostedApp(Protocol):
    """What can be served in this process."""

    async def startup(self) -> None:
        """Get ready to take requests; whatever it raises is why the service could not start."""
        ...

    async def handle(self, request: web.Request) -> web.StreamResponse: ...

    async def drain(self, timeout: float) -> None:
        """Take no new requests; wait up to `timeout` seconds for those under way, then cancel them."""
        ...

    async def cleanup(self) -> None:
        """Let go of everything; called once, also after a `startup` that raised."""
        ...


HostedFactory = Callable[[ServiceContext], HostedApp | Awaitable[HostedApp]]


Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Instrument(Protocol):
    """Puts itself around what handles requests and messages, to see them pass."""

    def direct(self, service: str, instance: str, handle: Handle) -> Handle:
        """The handler behind a service's own listener."""
        ...

    def messages(self, service: str) -> MessagingObserver | None: ...


class NoInstrument:
    """Sees nothing."""

    def direct(self, service: str, instance: str, handle: Handle) -> Handle:  # noqa: ARG002 - as above
        return handle

    def messages(self, service: str) -> MessagingObserver | None:  # noqa: ARG002 - as above
        return None


class NotAnApplicationError(Exception):
    """What an import path leads to is no aiohttp application, and no factory of one."""


class AiohttpApp:
    """An aiohttp Application behind the interface of a hosted service.

    `target` is `module:attribute`: an Application, or a sync or async factory of one that takes
    nothing or a ServiceContext.
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
        self._handler: Handle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        """One for each request under way."""
        self._expired: set[asyncio.Task[Any]] = set()
        """Those that were cancelled because they took too long to end."""
        self._draining = False
        self._idle: asyncio.Event | None = None
        """Set when the last request under way has ended; there only while it drains."""
        self.max_body = 1024**2
        """The limit on request bodies that the application sets itself."""

    async def startup(self) -> None:
        with speaking_as(self._context.name):
            # In a thread: the import of something large must not stall the services that run.
            attribute = await asyncio.to_thread(self._loader.load, self._target)
            application = await _build(attribute, self._target, self._context)
            self._runner = web.AppRunner(application, access_log=None, handle_signals=False)
            await self._runner.setup()
            server = self._runner.server
            self._handler = None if server is None else server.request_handler
            # aiohttp has no public name for the limit that an Application was given.
            self.max_body = getattr(application, "_client_max_size", self.max_body)

    @serves
    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The application's answer. Its exceptions become a 500 and a traceback in its log; what is
        raised from here is a cancellation, or means that the connection cannot be used further."""
        msctl_service = self._context.name
        handler, task = self._handler, asyncio.current_task()
        if handler is None or task is None or self._draining:
            return _unavailable(msctl_service, "is stopping")
        self._tasks.add(task)
        # Not a clone: the caller may have hooks in its request, and a copy costs as much as routing.
        request._client_max_size = self.max_body
        token = current_service.set(msctl_service)
        try:
            try:
                if "Content-Encoding" in request.headers:
                    inflate(request)
                answer: object = await handler(request)
            except web.HTTPException as raised:
                answer = _plain(raised)
            # Asking one of aiohttp's responses for its class is slow: they are abstract mappings.
            if type(answer) is not web.Response and not isinstance(answer, web.StreamResponse):
                raise TypeError(f"the handler of {request.path} returned {answer!r}, not a response")
            return answer
        except asyncio.CancelledError:
            if task in self._expired and task.uncancel() == 0 and not _has_begun(request):
                return _unavailable(msctl_service, "is stopping")
            raise
        except ConnectionError:
            if request.transport is None or request.transport.is_closing():
                raise  # the client has gone: nobody is left to answer
            return self._failed(request)
        except web.RequestPayloadError as error:
            if _has_begun(request):
                return self._failed(request)
            return web.Response(status=400, text=f"400 the request's body cannot be read: {error}\n")
        except (Exception, SystemExit):  # noqa: BLE001 - a user's handler may raise anything
            return self._failed(request)
        finally:
            current_service.reset(token)
            if type(request) is web.Request:
                # From its own listener; behind the gateway, the gateway's route is what counts.
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
            # A handler that ignores its cancellation is left behind rather than waited for.
            idle.clear()
            await first_of(idle.wait(), self._clock.sleep(1.0))

    async def cleanup(self) -> None:
        self._draining = True
        if self._runner is not None:
            runner, self._runner = self._runner, None
            self._handler = None
            # Not runner.cleanup(): it would send on_shutdown a second time.
            await self._quietly(runner.app.cleanup())

    def _failed(self, request: web.Request) -> web.StreamResponse:
        error = traceback.format_exc()
        self._logs.append(self._context.name, f"{request.method} {request.path} failed", "error")
        self._logs.append(self._context.name, shorten(error), "error")
        if _has_begun(request):
            # Ending the body here would pass a truncated answer off as whole.
            raise ConnectionResetError(f"{self._context.name} failed after it had begun to answer")
        # What aiohttp itself would answer, so that the service may as well live in its own process.
        return web.Response(status=500, text="500 Internal Server Error\n\nServer got itself in trouble")

    async def _quietly(self, step: Awaitable[None]) -> None:
        try:
            with speaking_as(self._context.name):
                await step
        except (Exception, SystemExit):  # noqa: BLE001 - it must not keep the stack from stopping
            self._logs.append(self._context.name, shorten(traceback.format_exc()), "error")


@contextmanager
def speaking_as(service: str) -> Iterator[None]:
    """Attribute what is logged in here, and by tasks that begin in here, to `service`."""
    token = current_service.set(service)
    try:
        yield
    finally:
        current_service.reset(token)


def describe(error: BaseException) -> str:
    """ "ModuleNotFoundError: No module named 'shop'": an exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def shorten(text: str) -> str:
    """The last lines of a traceback, and a word on how many were left out."""
    lines = text.rstrip().splitlines()
    left_out = len(lines) - _TRACEBACK_LINES
    if left_out <= 0:
        return "\n".join(lines)
    return "\n".join([f"({left_out} lines left out)", *lines[left_out:]])


async def _build(attribute: object, target: str, context: ServiceContext) -> web.Application:
    if callable(attribute) and not isinstance(attribute, web.Application):
        made = attribute(context) if _takes_argument(attribute) else attribute()
        attribute = await made if inspect.isawaitable(made) else made
    if not isinstance(attribute, web.Application):
        raise NotAnApplicationError(f"{target} gives {attribute!r}, not an aiohttp.web.Application")
    return attribute


def _takes_argument(factory: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some callables written in C have no signature
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in positional and p.default is p.empty for p in parameters)


def _route_of(request: web.Request) -> str:
    """The pattern that took the request, such as /users/{id}; empty for none."""
    # aiohttp's own name for what is not there before a route was looked for.
    found = request._match_info
    resource = None if found is None else found.route.resource
    return "" if resource is None else resource.canonical


def _plain(error: web.HTTPException) -> web.Response:
    """The response that a raised HTTPException stands for."""
    response = web.Response(status=error.status, reason=error.reason, headers=error.headers, body=error.body)
    response.cookies.update(error.cookies)
    return response


def _has_begun(request: web.Request) -> bool:
    return bool(getattr(request.writer, "output_size", 0))


def _unavailable(service: str, why: str) -> web.Response:
    return web.Response(status=503, text=f"503 {service} {why}\n", headers={"Retry-After": "1"})

"""The dashboard's server: the page, its stream of events, its acting verbs, and `/metrics`.

Knows a running stack as SystemView and a few smaller protocols of model.py; what is None among
these, the page does not offer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import msgspec
from aiohttp import web

from msctl.aio import first_of
from msctl.dashboard.feed import Feed, Lines
from msctl.dashboard.guard import TOKEN_HEADER, Asked, Guard
from msctl.errors import ConfigError, MsctlError, PortTakenError, UnknownServiceError, UsageError
from msctl.model.address import is_loopback
from msctl.model.project import DashboardSpec
from msctl.model.snapshots import PeekedMessage, QueueView, SystemView, TraceQuery, TraceView

log = logging.getLogger("msctl.dashboard")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MetricsPage = Callable[[str], Awaitable[tuple[bytes, str]]]
"""The whole stack's metrics and their content type, given the request's Accept."""

MAX_STREAMS = 64
MAX_MESSAGE = 1024 * 1024
FLUSH_S = 0.2
PING_S = 10.0
PEEK_BATCH = 200

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Scale(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request to scale a service."""

    count: int


class Publish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request to publish a message."""

    queue: str
    body: str
    content_type: str = "text/plain"


@dataclass(frozen=True, slots=True)
class Parts:
    """What the page shows and drives, besides the stack itself."""

    metrics: MetricsPage
    traces: TraceView | None = None
    queues: QueueView | None = None


class Dashboard:
    """Serves one stack from `start` to `stop`."""

    def __init__(self, spec: DashboardSpec, view: SystemView, parts: Parts) -> None:
        """Raises ConfigError for an address beyond loopback without a password."""
        if not is_loopback(spec.host) and not spec.password:
            raise ConfigError(
                f"the dashboard would listen on {spec.host} without a password",
                hint="set MSCTL_DASHBOARD_PASSWORD, or leave its host at 127.0.0.1",
            )
        self._spec = spec
        self._view = view
        self._parts = parts
        anywhere = not is_loopback(spec.host)
        names = frozenset({spec.host.lower(), socket.gethostname().lower()}) if anywhere else frozenset()
        self._guard = Guard(secrets.token_urlsafe(24), spec.password, names, anywhere)
        self._feed = Feed(view)
        self._session = secrets.token_hex(8)
        self._streams = 0
        self._ending = asyncio.Event()
        self._assets = _load_assets()
        self._runner = web.AppRunner(
            self._application(), access_log=None, shutdown_timeout=1.0, handler_cancellation=True
        )

    async def start(self) -> str:
        """Listen, and return the page's URL. Raises PortTakenError."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._spec.host, self._spec.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise PortTakenError(
                f"the dashboard cannot listen on {self._spec.host}:{self._spec.port}: {error.strerror}",
                hint="give it another port with MSCTL_DASHBOARD_PORT (0 takes a free one)",
            ) from error
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    async def stop(self) -> None:
        """Tell the pages, and close; does nothing where it has not started."""
        self._ending.set()
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._guarded], client_max_size=2 * MAX_MESSAGE)
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/static/{name}", self._asset),
                web.get("/metrics", self._metrics),
                web.get("/api/session", self._describe_session),
                web.get("/api/stream", self._stream),
                web.get("/api/traces", self._traces),
                web.get("/api/traces/{id}", self._trace),
                web.get("/api/peek", self._peek),
                web.post("/api/publish", self._publish),
                web.post("/api/services/{name}/scale", self._scale),
                web.post("/api/services/{name}/{verb:start|stop|restart}", self._act),
            ]
        )
        return app

    # --- what every request passes ----------------------------------------------------------------

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = self._guard.refusal(_asked(request))
        if refusal is not None:
            response: web.StreamResponse = _json({"message": refusal.reason}, status=refusal.status)
            if refusal.challenge:
                response.headers["WWW-Authenticate"] = 'Basic realm="msctl", charset="UTF-8"'
        else:
            response = await _answered(request, handler)
        if not response.prepared:
            response.headers.update(_HEADERS)
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    # --- the page ---------------------------------------------------------------------------------

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return self._file(request, "index.html")

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        return self._file(request, request.match_info["name"])

    def _file(self, request: web.Request, name: str) -> web.StreamResponse:
        asset = self._assets.get(name)
        if asset is None:
            raise web.HTTPNotFound(text=f"there is no {name}\n")
        body, tag, kind = asset
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        body, content_type = await self._parts.metrics(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _describe_session(self, _request: web.Request) -> web.StreamResponse:
        """What the page needs to act; only a page of ours can read it."""
        parts = self._parts
        return _json(
            {
                "token": self._guard.token,
                "session": self._session,
                "traces": parts.traces is not None,
                "queues": parts.queues is not None,
            }
        )

    # --- streams ----------------------------------------------------------------------------------

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """States and log lines, for as long as the page is there."""
        after = _number(request, "after", 0) if request.query.get("session") == self._session else 0
        lines = Lines(self._view, after)
        with self._feed.watched():
            return await self._events(
                request,
                {"state": self._feed.states(), "lines": lines.batches()},
                lines.collect(),
            )

    async def _peek(self, request: web.Request) -> web.StreamResponse:
        """What is in a queue and what comes to it, for as long as the page looks."""
        if self._parts.queues is None:
            raise web.HTTPNotFound(text="queues cannot be looked into here\n")
        messages = self._parts.queues.peek(_text(request, "queue"))
        return await self._events(request, {"messages": _batched(messages)})

    async def _events(
        self,
        request: web.Request,
        sources: dict[str, AsyncIterator[bytes]],
        *work: Awaitable[None],
    ) -> web.StreamResponse:
        """Server-sent events from several sources (HTML Living Standard §9.2)."""
        if self._streams >= MAX_STREAMS:
            for one in work:
                asyncio.ensure_future(one).cancel()
            return _json({"message": f"{MAX_STREAMS} pages are open already"}, status=503)
        self._streams += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **_HEADERS})
        response.headers["Cache-Control"] = "no-store"
        writing = asyncio.Lock()

        async def write(data: bytes) -> None:
            async with writing:
                await response.write(data)

        async def relay(name: str, source: AsyncIterator[bytes]) -> None:
            async for document in source:
                await write(b"event: %b\ndata: %b\n\n" % (name.encode(), document))
                await asyncio.sleep(FLUSH_S if name != "state" else 0)

        async def ping() -> None:
            while True:
                await asyncio.sleep(PING_S)
                await write(b": still here\n\n")

        tasks: list[asyncio.Task[None]] = [asyncio.ensure_future(one) for one in work]
        try:
            await response.prepare(request)
            relays = [relay(*source) for source in sources.items()]
            ends = await first_of(*tasks, *relays, ping(), self._end())
            await self._close([task for task in ends if not task.cancelled()], write)
        except ConnectionError:
            pass  # the page has gone
        finally:
            self._streams -= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return response

    async def _end(self) -> None:
        await self._ending.wait()

    async def _close(
        self, done: Sequence[asyncio.Future[None]], write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Say why the stream ends, where it is not the page that went."""
        for task in done:
            error = task.exception()
            if isinstance(error, MsctlError):
                await write(b"event: failed\ndata: %b\n\n" % msgspec.json.encode(_document(error)))
            elif isinstance(error, ConnectionError):
                return
            elif error is not None:
                log.error("a stream of the dashboard failed", exc_info=error)
        if self._ending.is_set():
            await write(b"event: bye\ndata: {}\n\n")

    # --- traces -----------------------------------------------------------------------------------

    async def _traces(self, request: web.Request) -> web.StreamResponse:
        if self._parts.traces is None:
            return _json([])
        query = TraceQuery(
            services=tuple(request.query.getall("service", [])),
            errors=request.query.get("errors") == "1",
            min_duration_s=_number(request, "min_ms", 0) / 1000,
            limit=_number(request, "limit", 100),
        )
        return _json(await self._parts.traces.traces(query))

    async def _trace(self, request: web.Request) -> web.StreamResponse:
        if self._parts.traces is None:
            raise web.HTTPNotFound(text="no traces are kept here\n")
        return _json(await self._parts.traces.trace(request.match_info["id"]))

    # --- verbs ------------------------------------------------------------------------------------

    async def _act(self, request: web.Request) -> web.StreamResponse:
        name, verb = request.match_info["name"], request.match_info["verb"]
        await self._require(name)
        log.info("%s %s, asked for by the dashboard", verb, name)
        if verb == "start":
            await self._view.start([name])
        elif verb == "stop":
            await self._view.stop([name])
        else:
            await self._view.restart([name])
        return _json({})

    async def _scale(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        await self._require(name)
        count = (await _body(request, Scale)).count
        log.info("scale %s=%d, asked for by the dashboard", name, count)
        await self._view.scale({name: count})
        return _json({})

    async def _publish(self, request: web.Request) -> web.StreamResponse:
        if self._parts.queues is None:
            raise UsageError("nothing can be published here")
        message = await _body(request, Publish)
        if not message.queue:
            raise UsageError("name the queue that the message is for")
        await self._parts.queues.publish(message.queue, message.body.encode(), message.content_type)
        return _json({})

    async def _require(self, name: str) -> None:
        """A name, not a pattern: what is acted on is exactly what was clicked."""
        known = [service.name for service in (await self._view.snapshot()).services]
        if name not in known:
            raise UnknownServiceError(f"there is no service {name!r}")


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except MsctlError as error:
        return _json(_document(error), status=409)
    except web.HTTPException as error:
        return web.Response(status=error.status, text=error.text or error.reason, headers=_allow(error))


def _allow(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}


async def _batched(messages: AsyncIterator[PeekedMessage]) -> AsyncIterator[bytes]:
    """Messages in batches: a busy queue must not cost a write for each."""
    waiting: list[PeekedMessage] = []
    missed = 0
    wake = asyncio.Event()

    async def collect() -> None:
        nonlocal missed
        async for message in messages:
            waiting.append(message)
            if len(waiting) > PEEK_BATCH:
                waiting.pop(0)
                missed += 1
            wake.set()

    task = asyncio.ensure_future(collect())
    task.add_done_callback(lambda _: wake.set())
    try:
        yield b'{"missed":0,"messages":[]}'
        while True:
            await wake.wait()
            wake.clear()
            batch, skipped = waiting[:], missed
            waiting.clear()
            missed = 0
            if batch:
                yield msgspec.json.encode({"missed": skipped, "messages": batch})
            if task.done():
                task.result()
                return
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _asked(request: web.Request) -> Asked:
    fields = request.headers
    return Asked(
        method=request.method,
        path=request.path,
        hosts=fields.getall("Host", []),
        origin=fields.get("Origin"),
        fetch_site=fields.get("Sec-Fetch-Site"),
        fetch_mode=fields.get("Sec-Fetch-Mode"),
        token=fields.get(TOKEN_HEADER),
        authorization=fields.get("Authorization"),
        content_type=fields.get("Content-Type", ""),
    )


def _load_assets() -> dict[str, tuple[bytes, str, str]]:
    """Name to content, tag and type of the files that make the page."""
    found: dict[str, tuple[bytes, str, str]] = {}
    for file in files("msctl.dashboard").joinpath("static").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            body = file.read_bytes()
            found[file.name] = body, f'"{hashlib.sha256(body).hexdigest()[:16]}"', kind
    return found


async def _body(request: web.Request, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.DecodeError as error:
        raise UsageError(f"the request is malformed: {error}") from error


def _text(request: web.Request, name: str) -> str:
    value = request.query.get(name, "")
    if not value:
        raise UsageError(f"the request names no {name}")
    return value


def _number(request: web.Request, name: str, default: int) -> int:
    value = request.query.get(name, "")
    with contextlib.suppress(ValueError):
        return max(0, int(value))
    return default


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def _document(error: MsctlError) -> dict[str, object]:
    return {"message": error.message, "hint": error.hint}

"""The dashboard's server: the page, its stream of events, its actions and `/metrics`.

Independent of the stack behind SystemView and the other views; the page does not offer what is None.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from msctl.dashboard.access import TOKEN_HEADER, AccessPolicy, RequestInfo
from msctl.dashboard.actions import Actions
from msctl.dashboard.assets import Assets
from msctl.dashboard.event_streams import EventStreams
from msctl.dashboard.feed import LogFeed, StateFeed, message_batches
from msctl.dashboard.responses import (
    SECURITY_HEADERS,
    Handler,
    answered,
    json_response,
    number_parameter,
    text_parameter,
)
from msctl.errors import ConfigError, PortTakenError
from msctl.model.address import is_loopback
from msctl.model.project import DashboardSpec
from msctl.model.traces import TraceQuery
from msctl.model.views import QueueView, SystemView, TraceView

MetricsPage = Callable[[str], Awaitable[tuple[bytes, str]]]
"""The stack's metrics and their content type, given the request's Accept header."""

MAX_MESSAGE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class DashboardViews:
    """What the page shows besides the stack itself."""

    metrics: MetricsPage
    traces: TraceView | None = None
    queues: QueueView | None = None


class Dashboard:
    """Serves one stack from `start` to `stop`."""

    def __init__(self, spec: DashboardSpec, view: SystemView, views: DashboardViews) -> None:
        """Raises ConfigError for a host beyond loopback without a password."""
        if not is_loopback(spec.host) and not spec.password:
            raise ConfigError(
                f"the dashboard would listen on {spec.host} without a password",
                hint="set MSCTL_DASHBOARD_PASSWORD, or leave its host at 127.0.0.1",
            )
        self._spec = spec
        self._view = view
        self._views = views
        anywhere = not is_loopback(spec.host)
        names = frozenset({spec.host.lower(), socket.gethostname().lower()}) if anywhere else frozenset()
        self._access = AccessPolicy(secrets.token_urlsafe(24), spec.password, names, anywhere)
        self._states = StateFeed(view)
        self._session = secrets.token_hex(8)
        self._streams = EventStreams()
        self._actions = Actions(view, views.queues)
        self._assets = Assets()
        self._runner = web.AppRunner(
            self._application(), access_log=None, shutdown_timeout=1.0, handler_cancellation=True
        )

    async def start(self) -> str:
        """Listen and return the page's URL. Raises PortTakenError."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._spec.host, self._spec.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise PortTakenError(
                f"the dashboard cannot listen on {self._spec.host}:{self._spec.port}: {error.strerror}",
                hint="use another port: MSCTL_DASHBOARD_PORT (0 for any free port)",
            ) from error
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    async def stop(self) -> None:
        """Notify the pages and close; does nothing if it is not started."""
        self._streams.close()
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
                *self._actions.routes(),
            ]
        )
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what the access policy denies; add the security headers."""
        denial = self._access.check(_request_info(request))
        if denial is not None:
            response: web.StreamResponse = json_response({"message": denial.reason}, status=denial.status)
            if denial.challenge:
                response.headers["WWW-Authenticate"] = 'Basic realm="msctl", charset="UTF-8"'
        else:
            response = await answered(request, handler)
        if not response.prepared:
            response.headers.update(SECURITY_HEADERS)
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    # --- the page ---------------------------------------------------------------------------------

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return self._assets.serve(request, "index.html")

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        return self._assets.serve(request, request.match_info["name"])

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        body, content_type = await self._views.metrics(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _describe_session(self, _request: web.Request) -> web.StreamResponse:
        """The token for actions, which only our own page can read, and what the stack offers."""
        return json_response(
            {
                "token": self._access.token,
                "session": self._session,
                "traces": self._views.traces is not None,
                "queues": self._views.queues is not None,
            }
        )

    # --- streams ----------------------------------------------------------------------------------

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """States and log lines while the page is open."""
        resumes = request.query.get("session") == self._session
        lines = LogFeed(self._view, number_parameter(request, "after", 0) if resumes else 0)
        with self._states.active():
            sources = {"state": self._states.states(), "lines": lines.batches()}
            return await self._streams.serve(request, sources, lines.collect())

    async def _peek(self, request: web.Request) -> web.StreamResponse:
        """The messages of a queue and new ones while the page watches it."""
        if self._views.queues is None:
            raise web.HTTPNotFound(text="this stack has no queues\n")
        messages = self._views.queues.peek(text_parameter(request, "queue"))
        return await self._streams.serve(request, {"messages": message_batches(messages)})

    # --- traces -----------------------------------------------------------------------------------

    async def _traces(self, request: web.Request) -> web.StreamResponse:
        if self._views.traces is None:
            return json_response([])
        query = TraceQuery(
            services=tuple(request.query.getall("service", [])),
            errors=request.query.get("errors") == "1",
            min_duration_s=number_parameter(request, "min_ms", 0) / 1000,
            limit=number_parameter(request, "limit", 100),
        )
        return json_response(await self._views.traces.traces(query))

    async def _trace(self, request: web.Request) -> web.StreamResponse:
        if self._views.traces is None:
            raise web.HTTPNotFound(text="this stack keeps no traces\n")
        return json_response(await self._views.traces.trace(request.match_info["id"]))


def _request_info(request: web.Request) -> RequestInfo:
    fields = request.headers
    return RequestInfo(
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

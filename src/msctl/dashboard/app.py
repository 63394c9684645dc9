"""The dashboard's server: the page, its stream of events, its actions and `/metrics`.

Independent of the stack behind SystemView and the other views; the page does not offer what is None.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import math
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from msctl import ports
from msctl.dashboard.access import (
    ACTION_HEADER,
    AccessPolicy,
    Denial,
    RequestInfo,
    followed_from_elsewhere,
    is_password_attempt,
)
from msctl.dashboard.actions import Actions
from msctl.dashboard.assets import Assets
from msctl.dashboard.event_streams import EventStreams
from msctl.dashboard.fault_actions import FaultActions
from msctl.dashboard.feed import LogFeed, StateFeed
from msctl.dashboard.messaging import MessagingPages
from msctl.dashboard.responses import (
    SECURITY_HEADERS,
    Handler,
    accepts_gzip,
    answered,
    json_response,
    number_parameter,
    text_parameter,
)
from msctl.dashboard.routes import route_rows
from msctl.dashboard.sign_in import TOKEN_PARAMETER, cookie_name, sign_in_page, signed_in
from msctl.dashboard.throttle import Throttle
from msctl.dashboard.traces import TracePages
from msctl.errors import ConfigError, MsctlError, PortTakenError
from msctl.faults.view import FaultView
from msctl.forks import close_server_in_forks
from msctl.http.head_timeout import HeadTimeout
from msctl.model.address import bracketed, is_loopback
from msctl.model.project import DashboardSpec
from msctl.model.routing import RouteView
from msctl.model.views import DetailView, MessagingView, RunView, SystemView, TraceView
from msctl.secret import Secret

MetricsPage = Callable[[str], Awaitable[tuple[bytes, str]]]
"""The stack's metrics and their content type, given the request's Accept header."""

MAX_MESSAGE = 1024 * 1024
KEEPALIVE_S = 15.0
log = logging.getLogger("msctl.dashboard")


@dataclass(frozen=True, slots=True)
class DashboardViews:
    """What the page shows besides the stack itself."""

    metrics: MetricsPage
    traces: TraceView | None = None
    queues: MessagingView | None = None
    runs: RunView | None = None
    run: str = ""
    """The name of the run under way."""
    details: DetailView | None = None
    routes: RouteView | None = None
    faults: FaultView | None = None
    api_document: Callable[[], str | None] = lambda: None
    """The URL of the OpenAPI document that the gateway joins."""


class Dashboard:
    """Serves one stack from `start` to `stop`."""

    def __init__(
        self, spec: DashboardSpec, view: SystemView, views: DashboardViews, token: Secret | None = None
    ) -> None:
        """`token` is the start-up token; without one, a new one is used.

        Raises ConfigError for a host beyond loopback without a password.
        """
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
        self._access = AccessPolicy(
            (token or Secret(secrets.token_urlsafe(32))) if spec.token else None,
            Secret(secrets.token_urlsafe(24)),
            spec.password,
            spec.metrics_key,
            names,
            anywhere,
        )
        self._throttle = Throttle(time.monotonic)
        self._url = ""
        self._port = spec.port
        self._server: asyncio.Server | None = None
        self._states = StateFeed(view)
        self._session = secrets.token_hex(8)
        self._streams = EventStreams()
        self._actions = Actions(view)
        self._messaging = MessagingPages(views.queues, self._streams)
        self._traces = TracePages(views.traces, views.runs, views.run)
        self._assets = Assets()
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            shutdown_timeout=1.0,
            handler_cancellation=True,
            keepalive_timeout=KEEPALIVE_S,
        )
        self._head_timeout = HeadTimeout()

    async def start(self) -> str:
        """Listen and return the page's URL. Raises PortTakenError."""
        await self._runner.setup()
        protocols = self._runner.server
        if protocols is None:
            raise RuntimeError("the runner has no server")
        try:
            server = await asyncio.get_running_loop().create_server(
                self._head_timeout.watching(protocols), self._spec.host, self._spec.port, start_serving=False
            )
            await ports.serve(server)
        except OSError as error:
            await self._runner.cleanup()
            raise PortTakenError(
                f"the dashboard cannot listen on {self._spec.host}:{self._spec.port}: {error.strerror}",
                hint="use another port: MSCTL_DASHBOARD_PORT (0 for any free port)",
            ) from error
        close_server_in_forks(server)
        self._server = server
        host, self._port = server.sockets[0].getsockname()[:2]
        self._url = f"http://{bracketed(host)}:{self._port}/"
        return self._url

    @property
    def link(self) -> str:
        """The URL with the start-up token, if the page needs one: whoever has it can act."""
        token = self._access.token
        return self._url if token is None else f"{self._url}?{TOKEN_PARAMETER}={token.reveal()}"

    async def stop(self) -> None:
        """Notify the pages and close; does nothing if it is not started."""
        self._streams.close()
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._guarded], client_max_size=2 * MAX_MESSAGE)
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/static/{name}", self._asset),
                web.get("/metrics", self._metrics),
                web.get("/api/metrics", self._metrics),
                web.get("/api/session", self._describe_session),
                web.get("/api/stream", self._stream),
                web.get("/api/services/{name}", self._service),
                web.get("/api/routes", self._routes),
                web.get("/api/route", self._route),
                *self._actions.routes(),
                *FaultActions(self._views.faults).routes(),
                *self._messaging.routes(),
                *self._traces.routes(),
            ]
        )
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what the access policy denies; add the security headers."""
        self._head_timeout.arrived(request.protocol)
        info = _request_info(request, cookie_name(self._port))
        response: web.StreamResponse | None = self._check_password(request, info)
        if response is None and self._is_sign_in(request, info):
            response = signed_in(self._port, self._access.session)
        elif response is None:
            denial = self._access.check(info)
            response = await answered(request, handler) if denial is None else _denied(denial, info)
        if not response.prepared:
            response.headers.update(SECURITY_HEADERS)
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    def _is_sign_in(self, request: web.Request, info: RequestInfo) -> bool:
        """Whether the request is the link with the right token."""
        if info.method != "GET" or info.path != "/" or self._access.check_origin(info) is not None:
            return False
        return self._access.accepts_token(request.query.get(TOKEN_PARAMETER, ""))

    def _check_password(self, request: web.Request, info: RequestInfo) -> web.Response | None:
        """Count wrong passwords, and refuse an address that has to wait after some."""
        if self._access.password is None or not is_password_attempt(info.authorization):
            return None
        address = request.remote or ""
        if (delay := self._throttle.delay(address)) > 0:
            response = json_response({"message": "too many wrong passwords; try again later"}, status=429)
            response.headers["Retry-After"] = str(math.ceil(delay))
            return response
        if self._access.accepts_password(info.authorization):
            self._throttle.succeed(address)
        else:
            count = self._throttle.fail(address)
            log.warning("wrong dashboard password from %s (attempt %d)", address, count)
        return None

    # --- the page ---------------------------------------------------------------------------------

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return self._assets.serve(request, "index.html")

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        return self._assets.serve(request, request.match_info["name"])

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        body, content_type = await self._views.metrics(request.headers.get("Accept", ""))
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if accepts_gzip(request.headers.get("Accept-Encoding", "")):
            # In a thread: many series are megabytes, of which a twentieth is sent.
            body = await asyncio.to_thread(gzip.compress, body, 3)
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=headers)

    async def _describe_session(self, _request: web.Request) -> web.StreamResponse:
        """The token for actions, which only our own page can read, and what the stack offers."""
        return json_response(
            {
                "token": self._access.action.reveal(),
                "session": self._session,
                "traces": self._views.traces is not None,
                "queues": self._views.queues is not None,
                "runs": self._views.runs is not None,
                "run": self._views.run,
            }
        )

    async def _service(self, request: web.Request) -> web.StreamResponse:
        if self._views.details is None:
            raise web.HTTPNotFound(text="this stack shows no details\n")
        return json_response(await self._views.details.details(request.match_info["name"]))

    async def _routes(self, _request: web.Request) -> web.StreamResponse:
        """The gateway's routes as rows; none while no gateway runs."""
        try:
            if self._views.routes is None:
                return json_response([])
            return json_response(route_rows(self._views.routes.routes(), self._views.api_document()))
        except MsctlError:
            return json_response([])

    async def _route(self, request: web.Request) -> web.StreamResponse:
        """Which route a request would take; nothing is sent."""
        if self._views.routes is None:
            raise web.HTTPNotFound(text="this stack has no routes\n")
        method, target = request.query.get("method", "GET").upper(), text_parameter(request, "target")
        found = self._views.routes.explain(method, target, {})
        path = None if found.route is None else found.route.path
        return json_response(
            {
                "route": path,
                "service": found.service,
                "instance": found.instance,
                "upstream_path": found.upstream_path,
                "status": found.status,
                "steps": found.steps,
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


def _denied(denial: Denial, info: RequestInfo) -> web.Response:
    if denial.status == 401 and info.path == "/" and denial.challenge is None:
        return sign_in_page(retry=followed_from_elsewhere(info))
    response = json_response({"message": denial.reason}, status=denial.status)
    if denial.challenge is not None:
        response.headers["WWW-Authenticate"] = denial.challenge
    return response


def _request_info(request: web.Request, cookie: str) -> RequestInfo:
    fields = request.headers
    return RequestInfo(
        method=request.method,
        path=request.path,
        hosts=fields.getall("Host", []),
        origin=fields.get("Origin"),
        fetch_site=fields.get("Sec-Fetch-Site"),
        fetch_mode=fields.get("Sec-Fetch-Mode"),
        session=request.cookies.get(cookie),
        action_token=fields.get(ACTION_HEADER),
        authorization=fields.get("Authorization"),
        content_type=fields.get("Content-Type", ""),
    )

"""The HTTP server of the management API: who is let in, and how much of the loop's time it gets.

It shares the loop with the broker and the services. So requests are paced: above RATE a second they wait,
and above WAITING of them are refused. Bodies are bounded, and lists are made in slices (see `listing`).

It listens on loopback. Web pages can make a browser connect to loopback, and browsers send credentials that
they have been given before: so the Host must be a local one, and requests of other origins are refused.
"""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import errno
import os
from base64 import b64decode
from collections.abc import Callable

from aiohttp import web

from msctl import ports
from msctl.broker.core.users import User
from msctl.broker.management.answers import (
    RefusedError,
    bad_request,
    empty,
    error,
    missing,
    refused_by_broker,
)
from msctl.broker.management.api import MANAGEMENT_TAGS, USER, Api, Handler
from msctl.broker.management.connections import Connections
from msctl.broker.management.definitions import DefinitionsDocument
from msctl.broker.management.documents import channel_counters, connection_counters, queue_counters
from msctl.broker.management.exchanges import Bindings, Exchanges
from msctl.broker.management.listing import SLICES
from msctl.broker.management.overview import Overview, broker_counters
from msctl.broker.management.pace import Pace
from msctl.broker.management.policies import Policies
from msctl.broker.management.queues import Queues
from msctl.broker.management.rates import SAMPLE_SECONDS, Rates
from msctl.broker.management.slices import Slices
from msctl.broker.management.users import Users, Vhosts
from msctl.broker.protocol.json_tables import JsonTableError
from msctl.broker.protocol.replies import AmqpError
from msctl.broker.server import BrokerServer
from msctl.broker.session.session import Session
from msctl.clock import AsyncClock
from msctl.forks import close_server_in_forks
from msctl.http.head_timeout import HeadTimeout
from msctl.model.address import LOOPBACK
from msctl.model.web_origin import WebOrigin

RATE = 200.0
BURST = 400
WAITING = 256
MAX_BODY = 32 * 1024 * 1024
"""Bytes of a request's body: definitions can be large."""
KEEPALIVE_S = 15.0
MAX_CONNECTIONS = 256
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="RabbitMQ Management"'}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


class ManagementServer:
    """Serves the management API of one broker from `start` to `stop`, on loopback.

    `port` 0 asks for a free port. `page` is where a browser at `/` is sent: the URL of the stack's page,
    None if there is none.
    """

    def __init__(
        self,
        server: BrokerServer,
        *,
        clock: AsyncClock,
        port: int,
        page: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._wanted_port = port
        self._api = Api(server, Rates(), clock)
        self._clock = clock
        self._slices = Slices(clock)
        self._page = page
        self._pace = Pace(clock, rate=RATE, burst=BURST, waiting=WAITING)
        self._runner: web.AppRunner | None = None
        self._head_timeout = HeadTimeout(most=MAX_CONNECTIONS)
        self._server: asyncio.Server | None = None
        self._sampler: asyncio.Task[None] | None = None
        self._port = 0

    @property
    def url(self) -> str | None:
        """Where it answers; None if it does not run."""
        return None if self._server is None else f"http://{LOOPBACK}:{self._port}/"

    async def start(self) -> None:
        """Listen. Where the port is taken, say so and do without: the broker works all the same."""
        log, port = self._api.broker.log, self._wanted_port
        try:
            await self._listen(port)
        except OSError as found:
            if found.errno == errno.EADDRINUSE:
                reason = f"is taken by {await asyncio.to_thread(ports.describe_holder, port)}"
            else:
                reason = f"cannot be used: {os.strerror(found.errno or 0).lower()}"
            log("info", f"no management API: port {port} {reason}")
            return
        log("info", f"the management API answers at {self.url}")

    async def _listen(self, port: int) -> None:
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            shutdown_timeout=1.0,
            handler_cancellation=True,
            keepalive_timeout=KEEPALIVE_S,
        )
        await runner.setup()
        protocols = runner.server
        if protocols is None:
            raise RuntimeError("the runner has no server")
        try:
            server = await asyncio.get_running_loop().create_server(
                self._head_timeout.watching(protocols), LOOPBACK, port, start_serving=False
            )
            await ports.serve(server)
        except OSError:
            await runner.cleanup()
            raise
        close_server_in_forks(server)
        self._server, self._runner = server, runner
        self._port = server.sockets[0].getsockname()[1]
        self._sampler = asyncio.create_task(self._sample(), name="management-rates")

    async def stop(self) -> None:
        """Close; does nothing if it is not started."""
        if self._sampler is not None:
            self._sampler.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sampler
            self._sampler = None
        if self._server is not None:
            self._server.close()
            self._server = None
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._guarded], client_max_size=MAX_BODY)
        app[SLICES] = self._slices
        app.router.add_get("/", self._index)
        for part in (
            Overview(self._api, lambda: self._port),
            Vhosts(self._api),
            Users(self._api),
            Connections(self._api),
            Bindings(self._api),
            Exchanges(self._api),
            Queues(self._api),
            Policies(self._api),
            DefinitionsDocument(self._api),
        ):
            for route in part.routes():
                # RabbitMQ takes a slash at the end, and Flower sends one.
                app.add_routes([route, web.route(route.method, f"{route.path}/", route.handler)])
        return app

    async def _index(self, _request: web.Request) -> web.StreamResponse:
        page = self._page()
        if page is None:
            return web.Response(text="RabbitMQ's management API is below /api/\n")
        return empty(302, Location=page)

    # --- who is let in, and when ---

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._head_timeout.arrived(request.protocol)
        try:
            response = await self._checked(request, handler)
        except RefusedError as found:
            response = found.answer
        if not response.prepared:
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
        return response

    async def _checked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        fields = request.headers
        # A link to the page itself may come from anywhere: it changes nothing, and nobody else can read it.
        followed = request.path == "/" and fields.get("Sec-Fetch-Mode") == "navigate"
        site = None if followed else fields.get("Sec-Fetch-Site")
        reason = WebOrigin(fields.getall("Host", []), fields.get("Origin"), site).refusal()
        if reason is not None:
            raise error(403, "forbidden", reason)
        if not await self._pace.enter():
            raise RefusedError(empty(429, **{"Retry-After": "1"}))
        if request.path != "/":
            request[USER] = self._log_in(fields.get("Authorization"))
        try:
            return await handler(request)
        except AmqpError as found:
            raise refused_by_broker(found) from found
        except JsonTableError as found:
            raise bad_request(str(found)) from found
        except web.HTTPNotFound:
            raise missing() from None
        except web.HTTPRequestEntityTooLarge:
            raise error(413, "too_large", f"the body exceeds {MAX_BODY} bytes") from None
        except web.HTTPException as found:
            allowed = {"Allow": found.headers["Allow"]} if "Allow" in found.headers else {}
            raise RefusedError(empty(found.status, **allowed)) from None

    def _log_in(self, authorization: str | None) -> User:
        """The user of HTTP Basic credentials. Raises RefusedError."""
        scheme, _, credentials = (authorization or "").partition(" ")
        if scheme.lower() != "basic":
            raise RefusedError(empty(401, **_CHALLENGE))
        try:
            name, _, password = b64decode(credentials.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            raise RefusedError(empty(401, **_CHALLENGE)) from None
        users = self._api.broker.users
        user_name = name.decode(errors="surrogateescape")
        refusal = users.refusal(user_name, password, loopback=True)
        user = users.get(user_name)
        if refusal is not None or user is None:
            self._api.broker.log("warning", f"management API: login refused: {refusal}")
            raise error(401, "not_authorized", "Login failed")
        if not MANAGEMENT_TAGS.intersection(user.tags):
            raise error(401, "not_authorized", "Not management user")
        return user

    # --- rates ---

    async def _sample(self) -> None:
        """Keep counters from which rates are computed, as long as the server runs."""
        while True:
            await self._clock.sleep(SAMPLE_SECONDS)
            await self.sample()

    async def sample(self) -> None:
        """Take one sample of everything, in slices of the loop's time."""
        rates, broker = self._api.rates, self._api.broker
        now = self._clock.monotonic()
        rates.sample(broker, broker_counters(broker), now)

        def sample_session(session: Session) -> None:
            rates.sample(session, connection_counters(session), now)
            for channel in session.channels:
                rates.sample(channel, channel_counters(channel), now)

        for vhost in list(broker.vhosts.values()):
            await self._slices.collect(
                list(vhost.queues.values()),
                lambda queue: rates.sample(queue, queue_counters(queue), now),
            )
        await self._slices.collect(self._api.server.sessions, sample_session)

"""Listeners: the addresses on which the stack accepts connections, and the hosted services behind each.

A service with a port has a listener of its own. Services with the gateway's port share its listener:
the gateway handles every request while it runs; otherwise the service with the matching route does.
A listener's socket is open while at least one service is attached. An HTTPS listener has a second,
internal address on loopback, where the stack's own services reach it over plain HTTP, whatever names
the certificate has.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from msctl import ports
from msctl.aio import reset_connection
from msctl.errors import PortTakenError
from msctl.http.host_policy import KEY, HostDenial, HostPolicy, host_policy
from msctl.http.tls_acceptor import TlsAcceptor
from msctl.model.address import LOOPBACK, Address, host_name
from msctl.model.endpoint import Handler
from msctl.model.project import Project
from msctl.model.services import address_of, runs_here
from msctl.model.snapshots import GATEWAY

if TYPE_CHECKING:
    import ssl

BACKLOG = 1024
KEEPALIVE_S = 75.0
_logger = logging.getLogger("msctl.http")

TlsContext = Callable[[], "ssl.SSLContext"]
"""Returns the TLS context; called when an HTTPS listener opens."""


class Acceptor(Protocol):
    """Accepts connections until it is closed."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Tenant:
    """A service behind a listener, and its path prefixes on a shared listener."""

    service: str
    handle: Handler
    prefixes: Callable[[], tuple[str, ...]] = tuple


class Listener:
    """An address and the services behind it."""

    def __init__(
        self,
        address: Address,
        server: type[web.Server],
        tls: TlsContext | None,
        policy: HostPolicy | None = None,
    ) -> None:
        """`policy` is for the services behind it; the gateway has a policy of its own."""
        self._server = server
        self._tls = tls
        self.policy = policy
        self._configured = address
        self._address = address
        self._internal = Address(LOOPBACK, 0)
        self._sockets: list[socket.socket] = []
        self._internal_sockets: list[socket.socket] = []
        self._tenants: dict[str, Tenant] = {}
        self._sole: Tenant | None = None
        self._lock = asyncio.Lock()
        self._http: web.Server | None = None
        self._acceptors: list[Acceptor] = []
        self._closing: dict[str, web.Server] = {}

    @property
    def address(self) -> Address:
        """The bound address; for a configured port of 0, the chosen port once it is bound."""
        return self._address

    @property
    def internal(self) -> Address:
        """The address at which the stack's own services reach it over plain HTTP."""
        return self._internal if self._configured.tls else self._address

    @property
    def configured(self) -> Address:
        """The configured address; a port of 0 means any free port."""
        return self._configured

    @property
    def bound(self) -> bool:
        return bool(self._sockets or self._acceptors)

    def reserve(self, service: str) -> None:
        """Bind for `service`, unless it is bound; raises PortTakenError."""
        if self.bound:
            return
        self._sockets, self._address = _bind(self._address, self._configured, service)
        if self._configured.tls:
            try:
                anywhere = Address(LOOPBACK, 0)
                self._internal_sockets, self._internal = _bind(self._internal, anywhere, service)
            except BaseException:
                self.release()
                raise

    def release(self) -> None:
        """Undo `reserve`, if no service was attached."""
        for sock in (*self._sockets, *self._internal_sockets):
            sock.close()
        self._sockets, self._internal_sockets = [], []

    def checked(self, handle: Handler) -> Handler:
        """Wrap a service's `handle`: refuse foreign hosts and cross-site requests (see host_policy.py)."""

        async def handled(request: web.Request) -> web.StreamResponse:
            if self.policy is not None and (denial := _check(self.policy, request)) is not None:
                return _denied(denial)
            return await handle(request)

        return handled

    async def attach(self, tenant: Tenant) -> None:
        """Send requests to `tenant`, in place of an earlier one of its service.

        The first one opens the socket; raises PortTakenError.
        """
        async with self._lock:
            if self._http is None:
                self.reserve(tenant.service)
                await self._open(tenant.service)
            self._tenants[tenant.service] = tenant
            self._update_sole()

    def detach(self, tenant: Tenant) -> None:
        """Send no more requests to `tenant`. After the last one, stop accepting and close idle
        connections, and busy ones after their response."""
        service = tenant.service
        if self._tenants.get(service) is not tenant:
            return  # it was replaced
        del self._tenants[service]
        self._update_sole()
        if self._tenants or self._http is None:
            return
        for server in self._acceptors:
            server.close()
        self._acceptors = []
        self._http.pre_shutdown()
        self._closing[service] = self._http
        self._http = None

    def _update_sole(self) -> None:
        """Determine the tenant that handles every request: the gateway, or the only one."""
        alone = next(iter(self._tenants.values())) if len(self._tenants) == 1 else None
        self._sole = self._tenants.get(GATEWAY, alone)

    async def finish(self, service: str, timeout: float) -> None:
        """After `detach`, wait up to `timeout` seconds for its connections, then abort them."""
        http = self._closing.pop(service, None)
        if http is not None:
            await http.shutdown(timeout)

    async def _open(self, service: str) -> None:
        loop = asyncio.get_running_loop()
        http = self._server(
            self._dispatch,  # type: ignore[arg-type]  # our factory returns web.Request
            request_factory=_make_request,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            logger=_logger,
        )
        try:
            for sock in (*self._sockets, *self._internal_sockets):
                sock.listen(BACKLOG)  # uvloop ignores errors of its own call
        except OSError as error:
            self.release()
            # Another program may have listened between our bind and listen.
            raise ports.taken(self._address, service) from error
        acceptors: list[Acceptor] = []
        try:
            if self._configured.tls:
                if self._tls is None:
                    raise RuntimeError("no certificate for an HTTPS listener")
                acceptors.append(TlsAcceptor(self._sockets, http, self._tls()))
                self._sockets = []
            for plain in (self._sockets, self._internal_sockets):
                while plain:
                    acceptors.append(await loop.create_server(http, sock=plain[0], backlog=BACKLOG))
                    plain.pop(0)
        except BaseException:
            for server in acceptors:
                server.close()
            self.release()
            raise
        self._http, self._acceptors = http, acceptors

    def _dispatch(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        tenant = self._sole or self._match(request.rel_url.raw_path)
        return self._not_found(request) if tenant is None else tenant.handle(request)

    async def _not_found(self, request: web.Request) -> web.StreamResponse:
        known = ", ".join(prefix for tenant in self._tenants.values() for prefix in tenant.prefixes())
        return web.Response(status=404, text=f"404 no service for {request.path}; known paths: {known}\n")

    def _match(self, path: str) -> Tenant | None:
        matching = [
            (len(prefix), tenant)
            for tenant in self._tenants.values()
            for prefix in tenant.prefixes()
            if path == prefix or path.startswith(prefix.rstrip("/") + "/")
        ]
        return max(matching, key=lambda found: found[0])[1] if matching else None


class Listeners:
    """The listeners of a project's hosted services."""

    def __init__(self, project: Project, server: type[web.Server], tls: TlsContext | None) -> None:
        """`server` is the HTTP server class of every listener."""
        self._server = server
        self._tls = tls
        self._by_service: dict[str, Listener] = {}
        self._by_service = self.plan(project)

    def plan(self, project: Project) -> dict[str, Listener]:
        """Return the listener of each service of `project`; unchanged addresses keep theirs."""
        fixed = {
            listener.configured: listener
            for listener in self._by_service.values()
            if listener.configured.port
        }
        planned: dict[str, Listener] = {}
        for spec in project.services:
            address = address_of(spec, project)
            if address is None or not runs_here(spec):
                continue
            previous = self._by_service.get(spec.name)
            if address.port:
                planned[spec.name] = fixed.setdefault(address, self._make(address, project))
            elif previous is not None and previous.configured == address:
                planned[spec.name] = previous
            else:
                planned[spec.name] = self._make(address, project)
        return planned

    def _make(self, address: Address, project: Project) -> Listener:
        return Listener(address, self._server, self._tls, host_policy(address.host, project))

    def set_hosts(self, project: Project) -> None:
        """Apply the hosts of `project` to every listener."""
        for listener in self._by_service.values():
            listener.policy = host_policy(listener.configured.host, project)

    def assign(self, service: str, listener: Listener | None) -> None:
        """Set the listener that `service` uses from its next start on."""
        previous = self._by_service.pop(service, None)
        if listener is not None:
            self._by_service[service] = listener
        if previous is not None and previous not in self._by_service.values():
            previous.release()

    def get(self, service: str) -> Listener | None:
        return self._by_service.get(service)

    def reserve(self, names: Sequence[str]) -> None:
        """Bind the listeners of these services, or none of them if one is taken (PortTakenError)."""
        fresh: list[Listener] = []
        try:
            for name in names:
                listener = self._by_service.get(name)
                if listener is not None and not listener.bound:
                    listener.reserve(name)
                    fresh.append(listener)
        except BaseException:
            for listener in fresh:
                listener.release()
            raise

    def release(self) -> None:
        """Unbind everything that is reserved and not in use."""
        for listener in self._by_service.values():
            listener.release()


def reset_on_error(handle: Handler) -> Handler:
    """Wrap `handle`: reset the client's connection if it raises ConnectionError.

    The error means a truncated response; a clean close would make a body without a length look
    complete.
    """

    async def handled(request: web.Request) -> web.StreamResponse:
        try:
            return await handle(request)
        except ConnectionError:
            reset_connection(request.transport)
            raise

    return handled


def _check(policy: HostPolicy, request: web.Request) -> HostDenial | None:
    headers = request.headers
    if "Via" in headers:
        return None  # checked by the gateway that it came through
    return policy.check_host(host_name(headers.get("Host", ""))) or policy.check_page(
        request.method,
        upgrade="Upgrade" in headers,
        origins=headers.getall("Origin", ()),
        fetch_site=headers.get("Sec-Fetch-Site"),
    )


def _denied(denial: HostDenial) -> web.Response:
    document = {"type": "about:blank", "status": denial.status, "detail": denial.detail, "key": KEY}
    return web.json_response(document, status=denial.status, content_type="application/problem+json")


def _bind(last: Address, configured: Address, service: str) -> tuple[list[socket.socket], Address]:
    """Bind at `last`; if it is taken and any port is allowed, at another port."""
    try:
        sockets = ports.bind(last, service)
    except PortTakenError:
        if configured.port:
            raise
        sockets = ports.bind(configured, service)
    return sockets, replace(configured, port=sockets[0].getsockname()[1])


def _make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.Request:
    return web.Request(message, payload, protocol, writer, task, asyncio.get_running_loop())

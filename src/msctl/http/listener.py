"""Listeners: the host:port on which the stack accepts, and the hosted services behind each.

A service with a port has a listener of its own. Those with the gateway's port share the gateway's:
it takes every request while it runs, and else the service does whose route fits. A listener's
socket is open while at least one service is behind it. One that speaks HTTPS has a second, on a port
of loopback's: there the stack's own services reach it over plain HTTP, whatever names the certificate has.
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
from msctl.http.tls_acceptor import SecureDoor
from msctl.model.address import Address
from msctl.model.project import Project
from msctl.model.services import address_of, runs_here
from msctl.model.snapshots import GATEWAY, LOOPBACK

if TYPE_CHECKING:
    import ssl

BACKLOG = 1024
KEEPALIVE_S = 75.0
_logger = logging.getLogger("msctl.http")

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
TlsContext = Callable[[], "ssl.SSLContext"]
"""What HTTPS listeners speak with; asked when one is opened."""


class Accepting(Protocol):
    """What hands new connections over."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Tenant:
    """A service behind a listener, and which paths are its own where it shares one."""

    service: str
    handle: Handle
    prefixes: Callable[[], tuple[str, ...]] = tuple


class Listener:
    """One host:port and the services behind it."""

    def __init__(self, address: Address, server: type[web.Server], tls: TlsContext | None) -> None:
        self._server = server
        self._tls = tls
        self._wanted = address
        self._address = address
        self._inside = Address(LOOPBACK, 0)
        self._sockets: list[socket.socket] = []
        self._inside_sockets: list[socket.socket] = []
        self._tenants: dict[str, Tenant] = {}
        self._sole: Tenant | None = None
        self._lock = asyncio.Lock()
        self._http: web.Server | None = None
        self._accepting: list[Accepting] = []
        self._closing: dict[str, web.Server] = {}

    @property
    def address(self) -> Address:
        """Where it listens; the port is the one that was chosen, once a port of 0 has been bound."""
        return self._address

    @property
    def inside(self) -> Address:
        """Where the stack's own services reach it: over plain HTTP."""
        return self._inside if self._wanted.tls else self._address

    @property
    def wanted(self) -> Address:
        """Where it was to listen; a port of 0 stands for any that is free."""
        return self._wanted

    @property
    def bound(self) -> bool:
        return bool(self._sockets or self._accepting)

    def reserve(self, service: str) -> None:
        """Bind for `service`, if nothing is bound yet; raises PortTakenError."""
        if self.bound:
            return
        self._sockets, self._address = _bind(self._address, self._wanted, service)
        if self._wanted.tls:
            try:
                anywhere = Address(LOOPBACK, 0)
                self._inside_sockets, self._inside = _bind(self._inside, anywhere, service)
            except BaseException:
                self.release()
                raise

    def release(self) -> None:
        """Undo `reserve`, where no service has come."""
        for sock in (*self._sockets, *self._inside_sockets):
            sock.close()
        self._sockets, self._inside_sockets = [], []

    async def admit(self, tenant: Tenant) -> None:
        """Serve `tenant` from now on, in the place of the one that stood for its service before.

        Opens the socket for the first; raises PortTakenError.
        """
        async with self._lock:
            if self._http is None:
                self.reserve(tenant.service)
                await self._open(tenant.service)
            self._tenants[tenant.service] = tenant
            self._settle()

    def dismiss(self, tenant: Tenant) -> None:
        """Give `tenant` no more requests. After the last one, accept no more connections, close the
        idle ones, and the busy ones after their answer."""
        service = tenant.service
        if self._tenants.get(service) is not tenant:
            return  # another has taken its place
        del self._tenants[service]
        self._settle()
        if self._tenants or self._http is None:
            return
        for server in self._accepting:
            server.close()
        self._accepting = []
        self._http.pre_shutdown()
        self._closing[service] = self._http
        self._http = None

    def _settle(self) -> None:
        """Find out whether one takes every request: the gateway, or who is alone."""
        alone = next(iter(self._tenants.values())) if len(self._tenants) == 1 else None
        self._sole = self._tenants.get(GATEWAY, alone)

    async def finish(self, service: str, timeout: float) -> None:
        """After `dismiss`, wait up to `timeout` seconds for its connections, then cut them."""
        http = self._closing.pop(service, None)
        if http is not None:
            await http.shutdown(timeout)

    async def _open(self, service: str) -> None:
        loop = asyncio.get_running_loop()
        http = self._server(
            self._dispatch,  # type: ignore[arg-type]  # our factory makes web.Request
            request_factory=_make_request,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            logger=_logger,
        )
        try:
            for sock in (*self._sockets, *self._inside_sockets):
                sock.listen(BACKLOG)  # uvloop does not tell when its own call fails
        except OSError as error:
            self.release()
            # Between bind and listen another program may have come first.
            raise ports.taken(self._address, service) from error
        accepting: list[Accepting] = []
        try:
            if self._wanted.tls:
                if self._tls is None:
                    raise RuntimeError("there is no certificate to speak HTTPS with")
                accepting.append(SecureDoor(self._sockets, http, self._tls()))
                self._sockets = []
            for plain in (self._sockets, self._inside_sockets):
                while plain:
                    accepting.append(await loop.create_server(http, sock=plain[0], backlog=BACKLOG))
                    plain.pop(0)
        except BaseException:
            for server in accepting:
                server.close()
            self.release()
            raise
        self._http, self._accepting = http, accepting

    def _dispatch(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        tenant = self._sole or self._choose(request.rel_url.raw_path)
        return self._nobody(request) if tenant is None else tenant.handle(request)

    async def _nobody(self, request: web.Request) -> web.StreamResponse:
        known = ", ".join(prefix for tenant in self._tenants.values() for prefix in tenant.prefixes())
        return web.Response(status=404, text=f"404 nothing here serves {request.path}; try {known}\n")

    def _choose(self, path: str) -> Tenant | None:
        fitting = [
            (len(prefix), tenant)
            for tenant in self._tenants.values()
            for prefix in tenant.prefixes()
            if path == prefix or path.startswith(prefix.rstrip("/") + "/")
        ]
        return max(fitting, key=lambda found: found[0])[1] if fitting else None


class Listeners:
    """The listeners of a project's hosted services."""

    def __init__(self, project: Project, server: type[web.Server], tls: TlsContext | None) -> None:
        """`server` speaks HTTP on every one of them: the gateway's refuses what is malformed."""
        self._server = server
        self._tls = tls
        self._by_service: dict[str, Listener] = {}
        self._by_service = self.plan(project)

    def plan(self, project: Project) -> dict[str, Listener]:
        """The listener of each service of `project`: those that there are where the address is the same."""
        fixed = {listener.wanted: listener for listener in self._by_service.values() if listener.wanted.port}
        planned: dict[str, Listener] = {}
        for spec in project.services:
            address = address_of(spec, project)
            if address is None or not runs_here(spec):
                continue
            former = self._by_service.get(spec.name)
            if address.port:
                planned[spec.name] = fixed.setdefault(address, Listener(address, self._server, self._tls))
            elif former is not None and former.wanted == address:
                planned[spec.name] = former
            else:
                planned[spec.name] = Listener(address, self._server, self._tls)
        return planned

    def put(self, service: str, listener: Listener | None) -> None:
        """Let `service` listen there from its next start on."""
        former = self._by_service.pop(service, None)
        if listener is not None:
            self._by_service[service] = listener
        if former is not None and former not in self._by_service.values():
            former.release()

    def get(self, service: str) -> Listener | None:
        return self._by_service.get(service)

    def reserve(self, names: Sequence[str]) -> None:
        """Bind what these services listen on; nothing stays bound if one is taken (PortTakenError)."""
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
        """Let go of everything that is reserved and not in use."""
        for listener in self._by_service.values():
            listener.release()


def resetting(handle: Handle) -> Handle:
    """`handle`, whose ConnectionError says that its answer broke off: the client sees a reset then.

    A clean end would let a body without a length pass for whole.
    """

    async def handled(request: web.Request) -> web.StreamResponse:
        try:
            return await handle(request)
        except ConnectionError:
            reset_connection(request.transport)
            raise

    return handled


def _bind(last: Address, wanted: Address, service: str) -> tuple[list[socket.socket], Address]:
    """Sockets at `last`; where any port will do and that one is taken by now, at another."""
    try:
        sockets = ports.bind(last, service)
    except PortTakenError:
        if wanted.port:
            raise
        sockets = ports.bind(wanted, service)
    return sockets, replace(wanted, port=sockets[0].getsockname()[1])


def _make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.Request:
    return web.Request(message, payload, protocol, writer, task, asyncio.get_running_loop())

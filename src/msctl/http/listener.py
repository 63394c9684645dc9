"""Listeners: the addresses on which the stack accepts connections, and the hosted services behind each.

A service with a port has a listener of its own. Services with the gateway's port share its listener:
the gateway handles every request while it runs; otherwise the service with the matching route does.
A listener's socket is open while at least one service is attached. An HTTPS listener has a second,
internal address on loopback, where the stack's own services reach it over plain HTTP, whatever names
the certificate has.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from msctl import ports
from msctl.errors import PortTakenError
from msctl.http.date import http_date
from msctl.http.host_policy import KEY, HostDenial, HostPolicy, host_policy
from msctl.http.limits import DEFAULT_LIMITS, HttpLimits, limits_of
from msctl.http.server import HttpServer, log_refusal
from msctl.http.tls_acceptor import TlsAcceptor
from msctl.model.address import LOOPBACK, Address, host_name
from msctl.model.exchange import Exchange, Field, Handler, RequestError
from msctl.model.project import Project
from msctl.model.services import address_of, runs_here
from msctl.model.snapshots import GATEWAY

if TYPE_CHECKING:
    import ssl

BACKLOG = 1024
MAX_NAMED = 8
"""The known paths that a 404 names."""
MAX_PATH = 200
"""The length to which a 404 shows the path."""
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
    on_refusal: Callable[[int], object] | None = None
    """Called with the status that answered bytes which are no request."""


class Listener:
    """An address and the services behind it."""

    def __init__(
        self,
        address: Address,
        tls: TlsContext | None,
        policy: HostPolicy | None = None,
        limits: HttpLimits = DEFAULT_LIMITS,
    ) -> None:
        """`policy` is for the services behind it; the gateway has a policy of its own."""
        self._limits = limits
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
        self._http: HttpServer | None = None
        self._acceptors: list[Acceptor] = []
        self._closing: dict[str, HttpServer] = {}

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

        async def handled(exchange: Exchange) -> None:
            if self.policy is not None and (denial := _check(self.policy, exchange)) is not None:
                _deny(exchange, denial)
            else:
                await handle(exchange)

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
        self._http.close_idle()
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
        http = HttpServer(self._dispatch, limits=self._limits, on_refusal=self._refused)
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

    def _refused(self, error: RequestError, client: tuple[str, int]) -> None:
        log_refusal(error, client)
        tenant = self._sole or next(iter(self._tenants.values()), None)
        if tenant is not None and tenant.on_refusal is not None:
            tenant.on_refusal(error.status)

    def _dispatch(self, exchange: Exchange) -> Awaitable[None]:
        tenant = self._sole or self._match(exchange.head.target.partition("?")[0])
        return self._not_found(exchange) if tenant is None else tenant.handle(exchange)

    async def _not_found(self, exchange: Exchange) -> None:
        prefixes = (prefix for tenant in self._tenants.values() for prefix in tenant.prefixes())
        named = list(itertools.islice(prefixes, MAX_NAMED + 1))
        known = ", ".join(named[:MAX_NAMED]) + (", …" if len(named) > MAX_NAMED else "")
        path = exchange.head.target.partition("?")[0][:MAX_PATH]
        text = f"404 no service for {path}; known paths: {known}\n".encode("utf-8", "surrogateescape")
        _respond(exchange, 404, b"Not Found", b"text/plain; charset=utf-8", text)

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

    def __init__(self, project: Project, tls: TlsContext | None) -> None:
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
        return Listener(address, self._tls, host_policy(address.host, project), limits_of(project.gateway))

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


def _check(policy: HostPolicy, exchange: Exchange) -> HostDenial | None:
    found: dict[bytes, list[str]] = {b"host": [], b"origin": [], b"sec-fetch-site": []}
    fields: Sequence[Field] = exchange.head.fields
    for name, value in (*fields, *exchange.extra):
        lower = name.lower()
        if lower == b"via":
            return None  # checked by the gateway that it came through
        if lower in found:
            found[lower].append(value.decode("latin-1"))
    host, site = found[b"host"], found[b"sec-fetch-site"]
    return policy.check_host(host_name(host[0] if host else "")) or policy.check_page(
        exchange.head.method,
        upgrade=exchange.head.upgrade is not None,
        origins=found[b"origin"],
        fetch_site=site[0] if site else None,
    )


def _deny(exchange: Exchange, denial: HostDenial) -> None:
    document = {"type": "about:blank", "status": denial.status, "detail": denial.detail, "key": KEY}
    body = json.dumps(document).encode()
    _respond(exchange, denial.status, b"", b"application/problem+json", body)


def _respond(exchange: Exchange, status: int, reason: bytes, content_type: bytes, body: bytes) -> None:
    exchange.respond(status, reason, [(b"Content-Type", content_type), (b"Date", http_date())], body)


def _bind(last: Address, configured: Address, service: str) -> tuple[list[socket.socket], Address]:
    """Bind at `last`; if it is taken and any port is allowed, at another port."""
    try:
        sockets = ports.bind(last, service)
    except PortTakenError:
        if configured.port:
            raise
        sockets = ports.bind(configured, service)
    return sockets, replace(configured, port=sockets[0].getsockname()[1])

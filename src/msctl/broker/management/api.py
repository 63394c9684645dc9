"""What the handlers of the management API share: the broker, who asks, and what he may see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from msctl.broker.core.access import Access, UserAccess
from msctl.broker.core.broker import Broker
from msctl.broker.core.users import ADMINISTRATOR, User
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.management.answers import error, missing
from msctl.broker.management.documents import Moment
from msctl.broker.management.rates import Rates
from msctl.broker.server import BrokerServer
from msctl.clock import Clock

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
USER = web.RequestKey("user", User)
MONITORING = "monitoring"
POLICYMAKER = "policymaker"
MANAGEMENT_TAGS = frozenset({ADMINISTRATOR, MONITORING, POLICYMAKER, "management"})
"""A user with one of these tags may use the management API."""


@dataclass(frozen=True, slots=True)
class Api:
    """The broker behind the API."""

    server: BrokerServer
    rates: Rates
    clock: Clock

    @property
    def broker(self) -> Broker:
        return self.server.broker

    def moment(self) -> Moment:
        return Moment(self.rates, self.clock.monotonic(), self.clock.time())

    def vhost(self, request: web.Request) -> VirtualHost:
        """The virtual host of the request's path. Raises RefusedError if the user may not see it."""
        name = request.match_info["vhost"]
        vhost = self.broker.vhosts.get(name)
        if vhost is None:
            raise error(404, "not_found", "vhost_not_found") if request.method == "PUT" else missing()
        if not self._sees(request[USER], vhost):
            raise error(401, "not_authorised", "User not authorised to access virtual host")
        return vhost

    def vhosts(self, request: web.Request) -> list[VirtualHost]:
        """The virtual hosts that the user may see."""
        return [vhost for vhost in self.broker.vhosts.values() if self._sees(request[USER], vhost)]

    def chosen_vhosts(self, request: web.Request) -> list[VirtualHost]:
        """The virtual host of the path, or all that the user may see."""
        return [self.vhost(request)] if "vhost" in request.match_info else self.vhosts(request)

    def _sees(self, user: User, vhost: VirtualHost) -> bool:
        if ADMINISTRATOR in user.tags or MONITORING in user.tags:
            return True
        return self.broker.users.permissions_of(user.name, vhost.name) is not None

    def access(self, request: web.Request, vhost: VirtualHost) -> Access:
        """What the user may do in a virtual host."""
        return UserAccess(self.broker.users, request[USER].name, vhost.name)

    def is_one_of(self, request: web.Request, *tags: str) -> bool:
        """Whether the user is an administrator or has one of the tags."""
        return bool({ADMINISTRATOR, *tags}.intersection(request[USER].tags))

    def require(self, request: web.Request, *tags: str) -> None:
        """Raises RefusedError unless the user is an administrator or has one of the tags."""
        if not self.is_one_of(request, *tags):
            raise error(401, "not_authorised", "User not authorised to access this resource")

"""The login of one connection: who it is, what its client can do, and what both sides agree on. No sockets.

The session calls `start_ok`, `tune_ok` and `open` in this order, each once, and sends the answers. An error
from any of them ends the connection.
"""

from __future__ import annotations

from msctl.broker.core.access import Access, UserAccess
from msctl.broker.core.broker import Broker
from msctl.broker.core.limits import too_many_connections
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.protocol.handshake import (
    CHANNEL_MAX,
    FRAME_MAX,
    Capabilities,
    check_tuning,
    client_capabilities,
    credentials,
)
from msctl.broker.protocol.replies import AmqpError, ReplyCode, not_allowed
from msctl.broker.protocol.tables import Table


class LoginRefusedError(AmqpError):
    """The user or the password is wrong, which is told to the operator but not to the client."""

    def __init__(self, mechanism: str, refusal: str) -> None:
        super().__init__(
            ReplyCode.ACCESS_REFUSED,
            f"Login was refused using authentication mechanism {mechanism}. "
            "For details see the broker logfile.",
            method=0,
        )
        self.reason = f"{mechanism} login refused: {refusal}"


class Login:
    """What a client has told. `loopback` is whether it is on this machine, where guest may log in."""

    def __init__(self, broker: Broker, *, loopback: bool) -> None:
        self.user = ""
        self.mechanism = ""
        self.client_properties: Table = {}
        self.capabilities = Capabilities()
        self.channel_max = CHANNEL_MAX
        self.frame_max = FRAME_MAX
        self.heartbeat = 0
        self._broker = broker
        self._loopback = loopback

    def start_ok(self, properties: Table, mechanism: str, response: bytes) -> None:
        """Authenticate. Raises LoginRefusedError, and AmqpError for what is no response."""
        self.capabilities = client_capabilities(properties)
        self.client_properties, self.mechanism = properties, mechanism
        user, password = credentials(mechanism, response)
        refusal = self._broker.users.refusal(user, password, loopback=self._loopback)
        if refusal is not None:
            raise LoginRefusedError(mechanism, refusal)
        self.user = user

    def tune_ok(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        """Agree on limits. Raises AmqpError 530 for more than was offered."""
        check_tuning(frame_max, channel_max)
        self.channel_max, self.frame_max, self.heartbeat = channel_max, frame_max, heartbeat

    def open(self, virtual_host: str) -> tuple[VirtualHost, Access]:
        """Return the virtual host, and the user's access to it. Raises AmqpError 530."""
        vhost = self._broker.vhosts.get(virtual_host)
        if vhost is None:
            raise not_allowed(f"vhost {virtual_host} not found")
        if vhost.connections >= vhost.limits.connections:
            raise too_many_connections(virtual_host, self.user, vhost.limits.connections)
        self._broker.check_user_limit(self.user)
        if self._broker.users.permissions_of(self.user, virtual_host) is None:
            raise not_allowed(f"access to vhost '{virtual_host}' refused for user '{self.user}'")
        return vhost, UserAccess(self._broker.users, self.user, virtual_host)

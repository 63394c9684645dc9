"""The broker of an exported system."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from msctl.model.address import is_loopback
from msctl.model.project import BrokerSpec, Project, ServiceSpec
from msctl.model.snapshots import BrokerMode, Kind

BROKER = "rabbitmq"
"""Name of the broker's container and host."""
BROKER_PORT = 5672
AMQP_URL = "AMQP_URL"


@dataclass(frozen=True, slots=True)
class BrokerPlan:
    """The broker that the exported services use.

    With `is_ours` the exported system includes it; otherwise `host` and `port` are the configured ones.
    `has_secret`: its credentials are not RabbitMQ's default, guest and guest.
    """

    is_ours: bool
    scheme: str
    host: str
    port: int
    user: str
    vhost: str
    has_secret: bool

    def url(self, credentials: str, host: str | None = None) -> str:
        """Return the URL with these credentials (`user:password`), or without any."""
        at = f"{credentials}@" if credentials else ""
        return f"{self.scheme}://{at}{host or self.host}:{self.port}/{self.vhost}"


def broker_plan(broker: BrokerSpec) -> BrokerPlan:
    """Return the configured broker if it is on another machine, else one that the system includes."""
    parts = urlsplit(broker.url)
    host = parts.hostname or "localhost"
    is_ours = is_loopback(host) or broker.mode in (BrokerMode.EMBEDDED, BrokerMode.LOCAL, BrokerMode.DOCKER)
    default = 5671 if parts.scheme == "amqps" else BROKER_PORT
    user, password = parts.username or "guest", parts.password or "guest"
    return BrokerPlan(
        is_ours,
        "amqp" if is_ours else parts.scheme,
        BROKER if is_ours else host,
        BROKER_PORT if is_ours else parts.port or default,
        unquote(user),
        parts.path.removeprefix("/"),
        (user, password) != ("guest", "guest"),
    )


def program_broker(spec: ServiceSpec, project: Project) -> dict[str, str]:
    """Return AMQP_URL for a command, unless the URL is a secret."""
    broker = project.broker
    if spec.kind is not Kind.COMMAND or broker_plan(broker).has_secret:
        return {}
    return {AMQP_URL: broker.url}

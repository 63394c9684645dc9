"""The broker of an exported system."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from msctl.model.address import is_loopback
from msctl.model.broker_spec import BrokerSpec
from msctl.model.broker_url import parse_url
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import GATEWAY, BrokerMode

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
    url = parse_url(broker.url)
    run_here = (BrokerMode.EMBEDDED, BrokerMode.LOCAL, BrokerMode.DOCKER)
    is_ours = is_loopback(url.host) or broker.mode in run_here
    scheme = "amqps" if url.tls else "amqp"
    return BrokerPlan(
        is_ours,
        "amqp" if is_ours else scheme,
        BROKER if is_ours else url.host,
        BROKER_PORT if is_ours else url.port,
        url.user,
        "" if url.vhost == "/" else quote(url.vhost, safe=""),
        (url.user, url.password.reveal()) != ("guest", "guest"),
    )


USERNAME = "MSCTL_BROKER_USERNAME"
PASSWORD = "MSCTL_BROKER_PASSWORD"  # noqa: S105 - the name of a variable
"""The credentials as they are, which msctl quotes into the URL."""


def program_broker(spec: ServiceSpec, project: Project) -> dict[str, str]:
    """Return AMQP_URL, unless the URL is a secret. The gateway needs none."""
    if spec.name == GATEWAY or broker_plan(project.broker).has_secret:
        return {}
    return {AMQP_URL: project.broker.url}


def program_secrets(spec: ServiceSpec, project: Project) -> tuple[str, ...]:
    """Return AMQP_URL if it is a secret of the service."""
    is_secret = spec.name != GATEWAY and broker_plan(project.broker).has_secret
    return (AMQP_URL,) if is_secret else ()

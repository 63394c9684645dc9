"""The variables that msctl assigns to a service when it starts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

OWN = ("HOST", "PORT", "AMQP_URL", "MSCTL_SERVICE", "MSCTL_INSTANCE")
"""About the service itself and the broker; `PWD` follows `cwd` and can be used like any other variable."""

_OF_SERVICE = ("URL", "HOST", "PORT")


def prefix(service: str) -> str:
    """What the variables about a service begin with: ORDER_ITEMS for order-items."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in service).upper()


def url_variable(service: str) -> str:
    """The name of the variable with a service's URL: ORDER_ITEMS_URL for order-items."""
    return f"{prefix(service)}_URL"


def assigned(services: Iterable[str]) -> frozenset[str]:
    """The names that have a value only when a service of this project starts."""
    return frozenset((*OWN, *(f"{prefix(name)}_{what}" for name in services for what in _OF_SERVICE)))


def about(service: str, url: str) -> Mapping[str, str]:
    """The variables about a service that is reached at `url`: its URL, host and port."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    found = {"URL": url, "HOST": parts.hostname or "", "PORT": "" if port is None else str(port)}
    return {f"{prefix(service)}_{what}": found[what] for what in _OF_SERVICE}

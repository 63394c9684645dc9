"""A broker's URL, validated, and displayed without its password. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from msctl.errors import ConfigError

_PORTS = {"amqp": 5672, "amqps": 5671}
_HINT = "write it as amqp://user:password@host:5672/ (%2F in the path is a slash in a virtual host's name)"


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """A broker's address and credentials; `text` holds the password and is never printed."""

    text: str = field(repr=False)
    shown: str
    host: str
    port: int
    user: str
    vhost: str
    tls: bool

    @property
    def address(self) -> str:
        """host:port, with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_url(text: str) -> BrokerUrl:
    """Parse an AMQP URL; port, user (guest) and virtual host (/) are optional.

    Raises ConfigError without the password in its message. Source: RabbitMQ's AMQP URI specification.
    """
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as exc:
        raise ConfigError(f"the broker's URL is invalid: {exc}", hint=_HINT) from None
    if parts.scheme not in _PORTS:
        found = f"scheme {parts.scheme}://" if parts.scheme else "no scheme"
        raise ConfigError(f"the broker's URL has {found}, expected amqp:// or amqps://", hint=_HINT)
    if not parts.hostname:
        raise ConfigError(f"the broker's URL has no host: {_shown(parts)}", hint=_HINT)
    if port == 0:
        raise ConfigError(f"the broker's URL has port 0: {_shown(parts)}", hint=_HINT)
    return BrokerUrl(
        text=text.strip(),
        shown=_shown(parts),
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        user=unquote(parts.username or "guest"),
        vhost=unquote(parts.path[1:]) or "/",
        tls=parts.scheme == "amqps",
    )


def _shown(parts: SplitResult) -> str:
    """The URL without its password and its query, which may contain file names of keys."""
    user, at, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    return f"{parts.scheme}://{name}{at}{host}{parts.path}"


def redact(text: str) -> str:
    """A valid URL without its password, for display."""
    return _shown(urlsplit(text))

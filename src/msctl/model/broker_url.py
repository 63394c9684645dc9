"""A broker's URL: parsed, composed, and shown without its password. Pure; the one place that does so.

Source: RabbitMQ's AMQP URI specification. Where a password contains `/`, `?` or `#` unencoded, most parsers
take it for a part of the address, fail, and print it. Here everything up to the last `@` is then read as user
and password, and the URL that programs are given is encoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from msctl.errors import ConfigError
from msctl.model.address import bracketed
from msctl.secret import MASK, Secret

PORTS = {"amqp": 5672, "amqps": 5671}
_HINT = "write it as amqp://user:password@host:5672/ (%2F in the path is a slash in a virtual host's name)"
_HIGHEST_PORT = 65535
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:\[\]@/?#]*)(?::([0-9]*))?")


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """A broker's address and credentials. `text` holds the password, encoded, and is never printed."""

    host: str
    port: int
    user: str = "guest"
    password: Secret = field(default_factory=lambda: Secret("guest"))
    vhost: str = "/"
    tls: bool = False
    query: str = ""
    text: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.text:
            object.__setattr__(self, "text", self._compose())

    def changed(
        self,
        *,
        port: int | None = None,
        user: str | None = None,
        password: Secret | None = None,
        tls: bool | None = None,
        query: str | None = None,
    ) -> BrokerUrl:
        """The same URL with other parts."""
        return replace(
            self,
            port=self.port if port is None else port,
            user=self.user if user is None else user,
            password=self.password if password is None else password,
            tls=self.tls if tls is None else tls,
            query=self.query if query is None else query,
            text="",
        )

    @property
    def address(self) -> str:
        """host:port, with an IPv6 address in brackets."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def shown(self) -> str:
        """The URL without its password and its query, which may contain file names of keys."""
        return redact(self.text)

    def _compose(self) -> str:
        scheme = "amqps" if self.tls else "amqp"
        path = "" if self.vhost == "/" else _quote(self.vhost)
        query = f"?{self.query}" if self.query else ""
        login = f"{_quote(self.user)}:{_quote(self.password.reveal())}"
        return f"{scheme}://{login}@{self.address}/{path}{query}"


def parse_url(text: str, *, any_port: bool = False) -> BrokerUrl:
    """Parse an AMQP URL; port, user (guest) and virtual host (/) are optional.

    With `any_port`, port 0 is accepted: it asks for a free one. Raises ConfigError without the password in
    its message.
    """
    if not text.isprintable():
        raise ConfigError("the broker's URL has characters that cannot be printed", hint=_HINT)
    parts = _split(text.strip())
    if parts.scheme not in PORTS:
        found = f"scheme {parts.scheme}://" if parts.scheme else "no scheme"
        raise ConfigError(f"the broker's URL has {found}, expected amqp:// or amqps://", hint=_HINT)
    if parts.userinfo is None and "@" in parts.path:
        raise ConfigError(
            f"the broker's URL has an '@' behind a '/': {parts.shown}",
            hint="in a password, write %2F for a slash; in a virtual host, %40 for an '@'",
        )
    found_host = _HOST_AND_PORT.fullmatch(parts.address)
    if found_host is None:
        raise ConfigError(f"the broker's URL has an invalid host or port: {parts.shown}", hint=_HINT)
    host, digits = found_host[1].strip("[]"), found_host[2]
    if not host:
        raise ConfigError(f"the broker's URL has no host: {parts.shown}", hint=_HINT)
    port = int(digits) if digits else PORTS[parts.scheme]
    if port > _HIGHEST_PORT or (port == 0 and not any_port):
        raise ConfigError(f"the broker's URL has port {port}: {parts.shown}", hint=_HINT)
    if "#" in parts.path or any(character.isspace() for character in parts.path):
        raise ConfigError(
            f"the broker's URL has a virtual host with a '#' or a space: {parts.shown}",
            hint="write %23 and %20 instead",
        )
    path, _, query = parts.path.partition("?")
    user, colon, password = (parts.userinfo or "").partition(":")
    return BrokerUrl(
        host=host,
        port=port,
        user=_unquote(user) or "guest",
        password=Secret(_unquote(password) if colon else "guest"),
        vhost=_unquote(path[1:]) or "/",
        tls=parts.scheme == "amqps",
        query=query,
        text="" if parts.encode else text.strip(),
    )


def redact(text: str) -> str:
    """A URL without its password and query, for display; also one that is no valid URL."""
    return _split(text.strip()).shown


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of a URL as they are written; `encode` says that the password is not encoded."""

    scheme: str
    userinfo: str | None
    address: str
    path: str
    encode: bool

    @property
    def shown(self) -> str:
        if self.userinfo is None and "@" in self.path:  # it may be a part of a password
            return f"{self.scheme}://{MASK}@{self.path.rpartition('@')[2]}"
        user = "" if self.userinfo is None else f"{self.userinfo.partition(':')[0]}@"
        path = self.path.partition("?")[0]
        address = self.address
        if _HOST_AND_PORT.fullmatch(address) is None:  # what stands for a port may be a password
            address = f"{address.partition(':')[0]}:{MASK}"
        return f"{self.scheme}://{user}{address}{path}" if self.scheme else MASK


def _split(text: str) -> _Parts:
    scheme, colon, rest = text.partition("://")
    if not colon:
        return _Parts("", None, "", "", encode=False)
    authority = _until(rest, "/?#")
    encode = False
    if "@" not in authority and "@" in rest and not _is_address(authority, rest[len(authority) :]):
        before, _, after = rest.rpartition("@")
        authority = f"{before}@{_until(after, '/?#')}"
        encode = True
    userinfo, at, address = authority.rpartition("@")
    encode = encode or (bool(at) and re.search(r"[\s@]", userinfo) is not None)
    return _Parts(scheme.lower(), userinfo if at else None, address, rest[len(authority) :], encode)


def _is_address(authority: str, rest: str) -> bool:
    """Whether what stands before the first `/`, `?` or `#` is a host, so that a later `@` is in the path."""
    found = _HOST_AND_PORT.fullmatch(authority)
    return found is not None and not rest.startswith("#")


def _until(text: str, stops: str) -> str:
    return re.split(f"[{re.escape(stops)}]", text, maxsplit=1)[0]


def _quote(text: str) -> str:
    from urllib.parse import quote  # most URLs are given, not composed

    return quote(text, safe="")


def _unquote(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text)

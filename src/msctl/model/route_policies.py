"""What a route does with its requests besides forwarding them: authentication, traffic, files.

Frozen plain data, part of the Project; times are in seconds, sizes in bytes. Paths are text here: routes
travel over the control socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


@dataclass(frozen=True, slots=True)
class JwtSpec:
    """A route that wants a signed bearer token (RFC 7519).

    `key_env` names the variable with the secret (HS*) or the public key in PEM (RS*, ES*, PS*, EdDSA).
    `jwks` is the URL of a set of public keys (RFC 7517); with `discovery` the issuer's OpenID configuration
    names it. A set is fetched again after `refresh` seconds, and when a token names a key that is not in it.
    `leeway` is the clock difference that is forgiven.
    """

    key_env: str | None = None
    algorithms: tuple[str, ...] = ()
    audience: str | None = None
    issuer: str | None = None
    leeway: float = 0.0
    jwks: str | None = None
    discovery: bool = False
    refresh: float = 300.0

    @property
    def fetches_keys(self) -> bool:
        return self.jwks is not None or self.discovery

    @property
    def accepted(self) -> tuple[str, ...]:
        """The algorithms that are accepted."""
        if self.algorithms:
            return self.algorithms
        return ("RS256", "ES256") if self.fetches_keys else ("HS256",)


@dataclass(frozen=True, slots=True)
class BasicAuthSpec:
    """A route that wants a user name and a password (RFC 7617).

    The users are in a file of htpasswd's format, or in the variable `env`, one of `file` and `env`.
    """

    file: str | None = None
    env: str | None = None
    realm: str = "msctl"


@dataclass(frozen=True, slots=True)
class ForwardAuthSpec:
    """A route whose requests another service allows: 2xx lets one pass, any other answer is relayed.

    `url` is asked, or `path` as this gateway routes it. `request_headers` are sent to it (all, if empty);
    those of its answer in `response_headers` replace the request's own.
    """

    url: str | None = None
    path: str | None = None
    timeout: float = 5.0
    request_headers: tuple[str, ...] = ()
    response_headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CanarySpec:
    """Another service that gets some requests of a route.

    A request whose field `header` or cookie `cookie` is `value` goes to it, one with "never" does not; of the
    others the share `share`.
    """

    service: str
    share: float = 0.0
    header: str | None = None
    cookie: str | None = None
    value: str = "always"


@dataclass(frozen=True, slots=True)
class MirrorSpec:
    """Another service that gets a copy of a share of a route's requests, and whose answers are dropped.

    Requests with a body longer than `max_body` are not copied.
    """

    service: str
    share: float = 1.0
    max_body: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class StickySpec:
    """What ties a client to an instance: a cookie that the gateway sets, a field, or its address."""

    cookie: str | None = None
    header: str | None = None
    client: bool = False


@dataclass(frozen=True, slots=True)
class StaticSpec:
    """Files of a folder: `index` answers for a folder, `fallback` for a path without a file."""

    root: str
    index: str = "index.html"
    fallback: str | None = None
    max_age: int | None = None
    precompressed: bool = False


class HostHeader(StrEnum):
    """Whose name the Host field of a forwarded request has."""

    CLIENT = "client"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class UpstreamTlsSpec:
    """How an https upstream is verified, and the certificate that the gateway shows to it.

    `ca` is a PEM file of authorities that replace the system's; `server_name` replaces the URL's host.
    """

    ca: Path | None = None
    verify: bool = True
    server_name: str | None = None
    cert: Path | None = None
    key: Path | None = None


Weights = Mapping[str, int]
"""Services and their parts of a route's requests."""

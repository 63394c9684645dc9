"""A route at the gateway: which requests it takes, and what it does with them. Frozen plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from msctl.model.route_policies import (
    BasicAuthSpec,
    CanarySpec,
    ForwardAuthSpec,
    JwtSpec,
    MirrorSpec,
    StaticSpec,
    Weights,
)
from msctl.model.upstream_policy import UpstreamPolicy

OF_THE_CONNECTION = frozenset(
    {"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"}
    | {"upgrade"}
)
"""Fields of one connection, in lower case: no route may edit them, no other end would understand them."""


@dataclass(frozen=True, slots=True)
class HeaderEdit:
    """Changes to a message's fields, done in this order: remove, set (replaces), add (appends)."""

    remove: tuple[str, ...] = ()
    set: Mapping[str, str] = field(default_factory=dict)
    add: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RedirectSpec:
    """Answer with a redirect; what is None stays as the request has it.

    `path` replaces the whole path, `prefix` only what the route matched; the query is kept.
    """

    status: int = 302
    scheme: str | None = None
    host: str | None = None
    port: int | None = None
    path: str | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class CorsSpec:
    """Which foreign origins a browser may let call a route (the Fetch standard's CORS protocol).

    `origins` are exact ("https://app.example") or "*"; `max_age` is how long, in seconds, a
    browser may keep a preflight's answer. Empty `headers` allow what the preflight asks for.
    """

    origins: tuple[str, ...]
    methods: tuple[str, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    credentials: bool = False
    max_age: int = 600


@dataclass(frozen=True, slots=True)
class ApiKeySpec:
    """A route that requires an API key; the keys are in the environment, never in the file.

    `env` names the variable with the list of keys (its grammar is in gateway/policies/api_keys.py);
    a request sends its key in the field `header`.
    """

    env: str
    header: str = "X-API-Key"


class RateLimitKey(StrEnum):
    """Which requests share a token bucket."""

    CLIENT = "client"
    CREDENTIAL = "credential"
    HEADER = "header"
    ROUTE = "route"


@dataclass(frozen=True, slots=True)
class RateLimitSpec:
    """A token bucket for each client of a route: `requests` in `period` seconds, at most `burst` at once.

    `burst` None is as many as `requests`. With `key = header`, `header` names the field whose
    value tells the clients apart.
    """

    requests: int
    period: float = 1.0
    burst: int | None = None
    key: RateLimitKey = RateLimitKey.CLIENT
    header: str | None = None


@dataclass(frozen=True, slots=True)
class ComposeSpec:
    """One JSON document made of several services' answers, fetched side by side.

    `branches` maps each member of the document to the path (and query) it is fetched from, as
    routed by this gateway; `{name}` in it is a variable of the route's path. `timeout` is each
    branch's own, in seconds.
    """

    branches: Mapping[str, str]
    timeout: float = 2.0


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One route at the gateway: which requests it takes, and the service they go to.

    `path` is matched by whole path elements (`/users` takes `/users` and `/users/1`, not
    `/userspace`) unless `exact`. Empty `methods`, `headers` and `hosts` match everything; a host
    may begin with `*.`. An element `{name}` matches any one element. `service` is empty for a
    route that answers by itself (`redirect`, `compose`, `static`). `weights` spread its requests over
    several services, its own among them only if it is named. `strip_prefix` takes the matched prefix
    off the path that is forwarded; `rewrite` puts another in its place.
    """

    path: str
    service: str
    exact: bool = False
    methods: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    strip_prefix: bool = False
    rewrite: str | None = None
    redirect: RedirectSpec | None = None
    compose: ComposeSpec | None = None
    request_headers: HeaderEdit | None = None
    response_headers: HeaderEdit | None = None
    cors: CorsSpec | None = None
    api_key: ApiKeySpec | None = None
    jwt: JwtSpec | None = None
    basic_auth: BasicAuthSpec | None = None
    forward_auth: ForwardAuthSpec | None = None
    rate_limit: RateLimitSpec | None = None
    weights: Weights = field(default_factory=dict)
    canary: CanarySpec | None = None
    mirror: MirrorSpec | None = None
    static: StaticSpec | None = None
    policy: UpstreamPolicy = field(default_factory=UpstreamPolicy)

    @property
    def other_services(self) -> tuple[str, ...]:
        """The services besides its own that get requests of it."""
        named = (*self.weights, self.canary and self.canary.service, self.mirror and self.mirror.service)
        return tuple(dict.fromkeys(name for name in named if name and name != self.service))

    @property
    def key_variables(self) -> tuple[str, ...]:
        """The environment variables in which its guards find their keys."""
        names = (
            self.api_key and self.api_key.env,
            self.jwt and self.jwt.key_env,
            self.basic_auth and self.basic_auth.env,
        )
        return tuple(name for name in names if name)

    @property
    def key_files(self) -> tuple[Path, ...]:
        """The files in which its guards find their users."""
        file = None if self.basic_auth is None else self.basic_auth.file
        return () if file is None else (Path(file),)

"""The configuration of a project, resolved and checked: its services, routes and gateway.

Frozen plain data, built by config. Verbs that only look at a running stack do not import it: that
takes time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from msctl.model.address import LOOPBACK
from msctl.model.broker_spec import BrokerSpec
from msctl.model.route_policies import (
    BasicAuthSpec,
    CanarySpec,
    ForwardAuthSpec,
    HostHeader,
    JwtSpec,
    MirrorSpec,
    StaticSpec,
    StickySpec,
    UpstreamTlsSpec,
    Weights,
)
from msctl.model.service_policies import Dependency, HealthSpec, RestartPolicy
from msctl.model.snapshots import Kind
from msctl.model.tls_spec import TlsSpec
from msctl.model.views import MessagingObserver
from msctl.secret import Secret

T = TypeVar("T")


class Isolation(StrEnum):
    """The process of a hosted service: the stack's own, or one of its own."""

    NONE = "none"
    PROCESS = "process"


class Framework(StrEnum):
    """The interface through which a hosted application is called."""

    AIOHTTP = "aiohttp"
    ASGI = "asgi"
    WSGI = "wsgi"


class Balance(StrEnum):
    """How an instance is chosen among the ready ones."""

    LEAST_LOADED = "least-loaded"
    ROUND_ROBIN = "round-robin"


class FailureKind(StrEnum):
    """What can be a failure of an instance."""

    CONNECT = "connect"
    """It cannot be connected to."""
    RESET = "reset"
    """It ends the connection in the middle of an exchange."""
    MALFORMED = "malformed"
    """What it sends is not HTTP."""
    DEADLINE = "deadline"
    """It does not answer in time."""
    STATUS_5XX = "5xx"
    """Its application answers with a 5xx, or its handler raises."""


INSTANCE_FAILURES = (
    FailureKind.CONNECT,
    FailureKind.RESET,
    FailureKind.MALFORMED,
    FailureKind.DEADLINE,
)
"""The failures of an instance, not of the application that runs in it."""


@dataclass(frozen=True, slots=True)
class UpstreamPolicy:
    """How the gateway talks to a service; None leaves the decision to the level above.

    A route's policy comes before its service's, and that before the gateway's own values.
    Times are in seconds, sizes in bytes (0 = no limit).
    """

    connect_timeout: float | None = None
    response_timeout: float | None = None
    idle_timeout: float | None = None
    stream_idle_timeout: float | None = None
    max_body: int | None = None
    retries: int | None = None
    pool_size: int | None = None
    balance: Balance | None = None
    breaker_on: tuple[FailureKind, ...] | None = None
    sticky: StickySpec | None = None


def first_set(*values: T | None) -> T:
    """Return the first value that is not None, of the levels from a route's up; the last never is."""
    return next(value for value in values if value is not None)


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
    policy: UpstreamPolicy = UpstreamPolicy()

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


@dataclass(frozen=True, slots=True)
class Reference:
    """A string of the configuration that names variables of the machine, from `.env` or the environment.

    `key` is its path in the file, in a service's table from there. `text` is the string as it is written,
    `value` what it became. `required` are the names that must be set, `names` all of them.
    """

    key: tuple[str | int, ...]
    text: str
    value: str = field(repr=False)
    names: frozenset[str]
    required: frozenset[str]


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service as the configuration declares it; times are in seconds.

    `file_variables` are those of the files in `env_file`; `secret_env` names the variables of `env` that are
    marked `secret`, `references` are its strings with `${...}`. `scheme` is that of its URL for others, None
    for HTTP's. `stop_timeout` None means the default of its kind (see services.stop_timeout), `max_restarts`
    None the default of its restart policy (see supervisor/policy.py).

    With `shell`, `command` is that of /bin/sh; `shell_operator` is an operator in a command without it.

    At most one of `app` (an import path `module:attribute`) and `command` (argv) is set; neither for
    the gateway, which the stack builds itself, and where `url` or `static` alone says all. With a `url` the
    service runs elsewhere, and what says how it would run here counts for nothing. Several URLs, separated
    by commas, are as many instances; with `resolve` each address of a name is one, asked for again after so
    many seconds. `tls` and `host_header` are for the requests to it. `routed` says that a route of another
    service names it (`weights`, `canary`, `mirror`).

    With `discover`, instances that other machines announce in the registry take requests too; a service with
    nothing else is found there alone. `announce` None means that its own instances are announced if they
    listen. `weight` is the share of each of them beside instances of others.

    `framework` None means that the application's object tells; `threads` are a WSGI application's.

    `image`, `build` (the context's folder) and `dockerfile` are for exports to containers alone.
    """

    name: str
    app: str | None = None
    framework: Framework | None = None
    threads: int = 10
    command: tuple[str, ...] | None = None
    shell: bool = False
    shell_operator: str | None = None
    host: str = LOOPBACK
    port: int | None = None
    routes: tuple[RouteSpec, ...] = ()
    depends_on: tuple[Dependency, ...] = ()
    autostart: bool = True
    replicas: int = 1
    isolation: Isolation = Isolation.NONE
    health: str | HealthSpec | None = None
    ready_log: str | None = None
    liveness: bool = False
    oneshot: bool = False
    restart: RestartPolicy = RestartPolicy.ON_FAILURE
    max_restarts: int | None = None
    restart_window: float | None = None
    stop_signal: str = "SIGTERM"
    stop_timeout: float | None = None
    start_timeout: float = 60.0
    success_exit_codes: tuple[int, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    env_file: tuple[Path, ...] = ()
    file_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    scheme: str | None = None
    secret_env: frozenset[str] = field(default=frozenset(), compare=False)
    references: tuple[Reference, ...] = field(default=(), compare=False, repr=False)
    cwd: Path | None = None
    url: str | None = None
    resolve: float | None = None
    host_header: HostHeader | None = None
    tls: UpstreamTlsSpec | None = None
    static: StaticSpec | None = None
    discover: bool = False
    announce: bool | None = None
    weight: int = 1
    image: str | None = None
    build: Path | None = None
    dockerfile: Path | None = None
    autoscale: int | None = None
    routed: bool = False
    policy: UpstreamPolicy = UpstreamPolicy()

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of an external service, which are the addresses of its instances."""
        return () if self.url is None else tuple(self.url.split(","))

    @property
    def only_discovered(self) -> bool:
        """Whether the registry alone knows where it runs."""
        return self.discover and not (self.app or self.command or self.url or self.static)

    @property
    def kind(self) -> Kind:
        if self.url is not None or self.only_discovered:
            return Kind.REMOTE
        return Kind.COMMAND if self.command is not None else Kind.HOSTED


class ServiceAddresses(StrEnum):
    """Which services others reach through a balanced address of the stack's."""

    REPLICATED = "replicated"
    ALL = "all"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class GatewaySpec:
    """The gateway's listener and limits; times are in seconds, sizes in bytes (0 = no limit).

    `hosts` are those that it answers for besides the local ones (http/host_policy.py); None is not set.
    A request's head has at most `max_header_bytes` in `max_header_fields` fields.
    `trusted_peers` are addresses or networks (CIDR) whose X-Forwarded-* fields are believed and
    appended to. `pool_size` connections are kept to each instance, `pool_idle` seconds unused.
    A request is tried again at most `retries` times, after a pause drawn between `backoff_min`
    and `backoff_max`, with a body of at most `retry_body` bytes, while retries are no more than
    `retry_budget` of the requests of the last 10 s plus `retry_floor` a second. A breaker opens
    after `breaker_failures` failures in a row, for `breaker_open` seconds times its openings in a
    row, at most `breaker_cap`; `breaker_on` says which failures count. `ready_path` is where the gateway
    tells its own readiness (None: nowhere), `openapi` where it serves one OpenAPI document of all services.
    `access_log_sample` is the share of the successful requests that are logged. `tls` holds for all that is
    served on the gateway's address.
    """

    host: str = LOOPBACK
    port: int = 8080
    connect_timeout: float = 3.0
    response_timeout: float = 15.0
    idle_timeout: float = 60.0
    stream_idle_timeout: float = 0.0
    max_body: int = 16 * 1024 * 1024
    max_header_bytes: int = 64 * 1024
    max_header_fields: int = 256
    drain_timeout: float = 10.0
    hosts: tuple[str, ...] | None = None
    trusted_peers: tuple[str, ...] = ()
    forwarded: bool = False
    pool_size: int = 256
    pool_idle: float = 4.0
    retries: int = 1
    retry_body: int = 64 * 1024
    retry_budget: float = 0.2
    retry_floor: float = 10.0
    backoff_min: float = 0.025
    backoff_max: float = 0.25
    breaker_failures: int = 5
    breaker_open: float = 5.0
    breaker_cap: float = 60.0
    breaker_on: tuple[FailureKind, ...] = INSTANCE_FAILURES
    balance: Balance = Balance.LEAST_LOADED
    ready_path: str | None = "/-/ready"
    openapi: str | None = None
    access_log_sample: float = 0.0
    service_addresses: ServiceAddresses = ServiceAddresses.REPLICATED
    tls: TlsSpec = field(default_factory=TlsSpec)


@dataclass(frozen=True, slots=True)
class DashboardSpec:
    """The listener of the dashboard and the metrics.

    `token` requires the link that `up` prints. `password` is for HTTP Basic with any user name; without one
    the page is served on loopback only. `metrics_key` is the bearer token of `/metrics`. `otlp_port` takes
    OTLP of programs that the stack did not start, where that port is free; 0 takes none.
    """

    enabled: bool = True
    host: str = LOOPBACK
    port: int = 8090
    token: bool = True
    password: Secret | None = None
    metrics_key: Secret | None = None
    otlp_port: int = 4318


@dataclass(frozen=True, slots=True)
class DiscoverySpec:
    """The registry in which stacks on several machines find each other's services; `url` None means none.

    `token` is Consul's. `ca`, `cert` and `key` are PEM files for a registry with TLS. Only stacks of one
    `namespace` (None: the project's name) see each other. `advertise` is the address that other machines are
    told, None the address from which the registry is reached. What a stack announces is gone `ttl` seconds
    after the stack was last heard of.
    """

    url: str | None = field(default=None, repr=False)
    token: Secret | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    namespace: str | None = None
    advertise: str | None = None
    ttl: float = 10.0


@dataclass(frozen=True, slots=True)
class Project:
    """A resolved configuration: everything that a stack needs to know before it starts.

    `root` is the folder of `msctl.toml`, or None for the built-in course system; `source` names
    the file that was read. Services are in the order of declaration; the gateway is one of them
    (named "gateway", at the end) unless the project has switched it off. `secrets` are the keys of
    guarded routes, by the variable or the file that each was found in; they are never shown.
    `dotenv` are the variables of the project's `.env`, which every service gets. `references` are the strings
    with `${...}` outside of the services.
    """

    name: str
    root: Path | None
    source: str
    services: tuple[ServiceSpec, ...]
    gateway: GatewaySpec | None
    broker: BrokerSpec
    dashboard: DashboardSpec = DashboardSpec()
    discovery: DiscoverySpec = DiscoverySpec()
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    dotenv: Mapping[str, str] = field(default_factory=dict, repr=False)
    references: tuple[Reference, ...] = field(default=(), compare=False, repr=False)

    def service(self, name: str) -> ServiceSpec | None:
        return next((spec for spec in self.services if spec.name == name), None)


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """What a hosted application may ask to be given: its factory takes one argument, this.

    `env` holds what a command service would find in its environment: $PORT, $HOST, $AMQP_URL,
    $<NAME>_URL of its dependencies, the variables of the shell, of `.env`, `env_file` and `env`.
    `messaging` is None where nobody observes.
    """

    name: str
    instance: str
    host: str
    port: int | None
    amqp_url: str
    env: Mapping[str, str]
    messaging: MessagingObserver | None = None

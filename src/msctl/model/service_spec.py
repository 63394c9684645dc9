"""A service as the configuration declares it. Frozen plain data, part of the Project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from msctl.model.address import LOOPBACK
from msctl.model.route_policies import HostHeader, StaticSpec, UpstreamTlsSpec
from msctl.model.route_spec import RouteSpec
from msctl.model.service_policies import Dependency, HealthSpec, RestartPolicy
from msctl.model.snapshots import Kind
from msctl.model.upstream_policy import UpstreamPolicy
from msctl.model.websocket_spec import WebSocketSpec


class Isolation(StrEnum):
    """The process of a hosted service: the stack's own, or one of its own."""

    NONE = "none"
    PROCESS = "process"


class Framework(StrEnum):
    """The interface through which a hosted application is called."""

    AIOHTTP = "aiohttp"
    ASGI = "asgi"
    WSGI = "wsgi"


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

    `framework` None means that the application's object tells; `threads` are a WSGI application's and
    `websocket` is an ASGI application's.

    `image`, `build` (the context's folder) and `dockerfile` are for exports to containers alone.
    """

    name: str
    app: str | None = None
    framework: Framework | None = None
    threads: int = 10
    websocket: WebSocketSpec | None = None
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
    policy: UpstreamPolicy = field(default_factory=UpstreamPolicy)

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

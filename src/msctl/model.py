"""What the parts of msctl tell each other: specs, states, snapshots, events, and the SystemView seam.

Frozen plain data and protocols only. Imports nothing of msctl but errors and clock, and no
third-party package, so that every module and every CLI verb can afford to import it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

LOOPBACK = "127.0.0.1"
GATEWAY = "gateway"


# --- what the user declares -------------------------------------------------------------------


class Kind(StrEnum):
    """How a service runs."""

    HOSTED = "hosted"
    COMMAND = "command"


class Isolation(StrEnum):
    """Where a hosted service's application lives."""

    NONE = "none"
    PROCESS = "process"


class RestartPolicy(StrEnum):
    """When an instance that ended is started again."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NO = "no"


class Condition(StrEnum):
    """What a dependency must have reached before its dependent starts."""

    STARTED = "started"
    READY = "ready"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class Dependency:
    """`service` must have reached `condition` first."""

    service: str
    condition: Condition = Condition.READY


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One route at the gateway: which requests it takes, and the service they go to.

    `path` is matched by whole path elements (`/users` takes `/users` and `/users/1`, not
    `/userspace`) unless `exact`. Empty `methods`, `headers` and `hosts` match everything.
    """

    path: str
    service: str
    exact: bool = False
    methods: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    strip_prefix: bool = False


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service as the configuration declares it; times are in seconds.

    Exactly one of `app` (an import path `module:attribute`) and `command` (argv) is set, but for
    the gateway, which the stack builds itself and which has neither.
    """

    name: str
    app: str | None = None
    command: tuple[str, ...] | None = None
    host: str = LOOPBACK
    port: int | None = None
    routes: tuple[RouteSpec, ...] = ()
    depends_on: tuple[Dependency, ...] = ()
    autostart: bool = True
    replicas: int = 1
    isolation: Isolation = Isolation.NONE
    health: str | None = None
    ready_log: str | None = None
    liveness: bool = False
    oneshot: bool = False
    restart: RestartPolicy = RestartPolicy.ON_FAILURE
    stop_timeout: float = 10.0
    start_timeout: float = 60.0
    success_exit_codes: tuple[int, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    url: str | None = None

    @property
    def kind(self) -> Kind:
        return Kind.COMMAND if self.command is not None else Kind.HOSTED


@dataclass(frozen=True, slots=True)
class GatewaySpec:
    """The gateway's listener and limits; times are in seconds, sizes in bytes (0 = no limit)."""

    host: str = LOOPBACK
    port: int = 8080
    connect_timeout: float = 3.0
    response_timeout: float = 15.0
    idle_timeout: float = 60.0
    max_body: int = 16 * 1024 * 1024
    drain_timeout: float = 10.0


class BrokerMode(StrEnum):
    """Which AMQP server the stack uses."""

    AUTO = "auto"
    EMBEDDED = "embedded"
    EXTERNAL = "external"
    LOCAL = "local"
    DOCKER = "docker"


@dataclass(frozen=True, slots=True)
class BrokerSpec:
    """The broker's mode and the URL at which the stack and the CLI reach it."""

    mode: BrokerMode = BrokerMode.EXTERNAL
    url: str = "amqp://guest:guest@localhost:5672/"


@dataclass(frozen=True, slots=True)
class Project:
    """A resolved configuration: everything that a stack needs to know before it starts.

    `root` is the folder of `msctl.toml`, or None for the built-in course system; `source` names
    the file that was read. Services are in the order of declaration; the gateway is one of them
    (named "gateway", at the end) unless the project has switched it off.
    """

    name: str
    root: Path | None
    source: str
    services: tuple[ServiceSpec, ...]
    gateway: GatewaySpec | None
    broker: BrokerSpec

    def service(self, name: str) -> ServiceSpec | None:
        return next((spec for spec in self.services if spec.name == name), None)


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """What a hosted application may ask to be given: its factory takes one argument, this.

    `env` holds what a command service would find in its environment ($PORT, $HOST, $AMQP_URL and
    $<NAME>_URL of its dependencies), on top of the stack's own environment.
    """

    name: str
    instance: str
    host: str
    port: int | None
    amqp_url: str
    env: Mapping[str, str]


# --- what the stack reports -------------------------------------------------------------------


class State(StrEnum):
    """Where an instance is in its life; the transitions are in supervisor/lifecycle.py."""

    STOPPED = "stopped"
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    EXITED = "exited"
    FATAL = "fatal"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class InstanceSnapshot:
    """One running copy. `uptime_s` counts from its last start; `reason` says why it is not ready."""

    name: str
    state: State
    reason: str = ""
    address: str | None = None
    pid: int | None = None
    uptime_s: float | None = None
    restarts: int = 0
    exit: str | None = None
    cpu_percent: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ServiceSnapshot:
    """A service and its instances; the service's own figures are those of its instances together."""

    name: str
    kind: Kind
    state: State
    reason: str = ""
    addresses: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    pid: int | None = None
    uptime_s: float | None = None
    restarts: int = 0
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    requests_per_s: float | None = None
    p95_s: float | None = None
    instances: tuple[InstanceSnapshot, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """A queue of the broker, as far as the mode in use lets us see it."""

    name: str
    ready: int
    unacked: int
    consumers: int


@dataclass(frozen=True, slots=True)
class BrokerSnapshot:
    """The broker; `url` never holds a password. `queues` is None where the mode does not tell."""

    mode: BrokerMode
    state: State
    url: str
    reason: str = ""
    pid: int | None = None
    connections: int | None = None
    queues: tuple[QueueSnapshot, ...] | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that `status` shows, at one moment."""

    project: str
    root: str | None
    version: str
    pid: int
    uptime_s: float
    services: tuple[ServiceSnapshot, ...]
    broker: BrokerSnapshot
    schema: int = 1


@dataclass(frozen=True, slots=True)
class Event:
    """A change of one service's (or instance's) state, in the order of `seq`; `time` is epoch seconds."""

    seq: int
    time: float
    service: str
    instance: str
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a service or the stack itself (service "msctl") wrote."""

    seq: int
    time: float
    service: str
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines: of these services (none named means all), the last `tail`, and those to come."""

    services: tuple[str, ...] = ()
    tail: int | None = None
    follow: bool = False


class SystemView(Protocol):
    """A running stack as the CLI and the dashboard see it.

    The stack implements it; `control.client` offers the same verbs, blocking, over the control
    socket. No services named means all of them. Raises UnknownServiceError for a name that the
    project does not have, before anything is done.
    """

    async def snapshot(self) -> Snapshot: ...

    def events(self) -> AsyncIterator[Event]:
        """The present state of every service, then each change as it happens."""
        ...

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]: ...

    async def start(self, services: Sequence[str], *, deps: bool = True) -> Snapshot:
        """Start these and what they depend on; return when each is ready or has failed."""
        ...

    async def stop(self, services: Sequence[str]) -> Snapshot:
        """Stop these; return when they have ended. What depends on them runs on."""
        ...

    async def restart(self, services: Sequence[str], *, deps: bool = True) -> Snapshot: ...

    async def shutdown(self, timeout: float | None = None) -> None:
        """Stop everything and end the stack; returns when the stop has begun to be carried out."""
        ...

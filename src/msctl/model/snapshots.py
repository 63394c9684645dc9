"""The state of a running stack at one moment, as `status` and the dashboard show it.

Frozen plain data. Imports nothing of msctl and no third-party package, so that every verb can afford it.
Only classes with many objects have slots: they double the cost of a class at start-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

GATEWAY = "gateway"


class Kind(StrEnum):
    """How a service runs."""

    HOSTED = "hosted"
    COMMAND = "command"
    REMOTE = "remote"
    """An external service at its `url`: only probed by the stack."""


class BrokerMode(StrEnum):
    """The AMQP server in use."""

    AUTO = "auto"
    EMBEDDED = "embedded"
    EXTERNAL = "external"
    LOCAL = "local"
    DOCKER = "docker"


class Durability(StrEnum):
    """When a persistent message in the embedded broker is safe."""

    NONE = "false"
    """Never: everything is in memory."""
    PROCESS = "process"
    """Once it is written to the log: it outlives this process."""
    DISK = "disk"
    """Once the log is synchronized: it outlives the machine's crash."""


class State(StrEnum):
    """The state of an instance; the transitions are in supervisor/lifecycle.py."""

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


class BreakerState(StrEnum):
    """The state of an instance's circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True)
class TargetSnapshot:
    """One instance as the gateway sees it: its requests and connections now.

    `pool_waiting` are requests that wait for a connection; `retry_in_s` is when an open breaker lets
    the next one through, None for a closed one.
    """

    service: str
    instance: str
    address: str
    breaker: BreakerState
    in_flight: int = 0
    pool_open: int = 0
    pool_waiting: int = 0
    retry_in_s: float | None = None


@dataclass(frozen=True)
class InstanceSnapshot:
    """One running copy. `uptime_s` counts from its last start; `reason` says why it is not ready.
    `launched_at` is when that start was tried, in seconds since the epoch.

    `target` is how the gateway sees it; None where it sends it nothing: no route leads to its
    service, it is not ready, or no gateway runs. `origin` is the registry in which it was found, None for one
    of this stack.
    """

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
    target: TargetSnapshot | None = None
    origin: str | None = None
    launched_at: float | None = None


@dataclass(frozen=True)
class MessageFlow:
    """The rate of messages between a service and a queue, in one direction, over the last seconds."""

    queue: str
    sends: bool
    per_s: float


@dataclass(frozen=True)
class ServiceSnapshot:
    """A service and its instances; the service's own figures are the sums over its instances.

    `requests_per_s` and `errors_per_s` (5xx) are of the last ten seconds, `p95_s` of the last minute;
    None where nobody measures them. `recent` are the requests of each of the last seconds, oldest
    first. `addresses` are host:port for plain HTTP, and URLs for anything else. `scalable` says whether
    it can have another number of instances.
    """

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
    errors_per_s: float | None = None
    recent: tuple[int, ...] = ()
    depends_on: tuple[str, ...] = ()
    messages: tuple[MessageFlow, ...] = ()
    scalable: bool = False

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of `addresses`."""
        return tuple(map(url_of, self.addresses))


def url_of(address: str) -> str:
    """The URL of one of ServiceSnapshot's addresses."""
    return address if "://" in address else f"http://{address}"


@dataclass(frozen=True)
class QueueSnapshot:
    """A queue of the broker; counts are None in modes that cannot tell them.

    `published` and `delivered` count its messages since the broker started.
    """

    name: str
    ready: int
    unacked: int
    consumers: int
    published: int | None = None
    delivered: int | None = None
    vhost: str = "/"


@dataclass(frozen=True)
class StorageSnapshot:
    """What an embedded broker keeps on disk: a message counts once for each queue that has it."""

    durability: Durability
    folder: str
    messages: int
    bytes: int


@dataclass(frozen=True)
class BrokerSnapshot:
    """The broker. `url` has no password; `queues` and `memory_…` are None in modes that cannot report them.

    `blocked` is an alarm: publishers wait, because messages take more than `memory_limit` bytes or the
    disk is full; `reason` says which. `storage` is None if nothing is kept on disk, or elsewhere.
    `management` is the URL of its management API.
    """

    mode: BrokerMode
    state: State
    url: str
    reason: str = ""
    pid: int | None = None
    connections: int | None = None
    queues: tuple[QueueSnapshot, ...] | None = None
    blocked: bool = False
    management: str | None = None
    memory_bytes: int | None = None
    memory_limit: int | None = None
    storage: StorageSnapshot | None = None


@dataclass(frozen=True)
class FaultSnapshot:
    """Something broken on purpose: `effect` says how, `hits` counts what it touched, `seed` repeats it."""

    id: str
    kind: str
    target: str
    effect: str
    remaining_s: float
    hits: int
    seed: int


@dataclass(frozen=True)
class RegistrySnapshot:
    """The registry of services on other machines. `url` has no password.

    `advertise` is the address under which this stack's instances, `announced`, are registered; `found` are
    those of others in use. While it is away, `state` is backoff and those found last stay.
    """

    kind: str
    state: State
    url: str
    namespace: str
    reason: str = ""
    advertise: str | None = None
    announced: tuple[str, ...] = ()
    found: int = 0


@dataclass(frozen=True)
class Snapshot:
    """Everything that `status` shows."""

    project: str
    root: str | None
    version: str
    pid: int
    uptime_s: float
    services: tuple[ServiceSnapshot, ...]
    broker: BrokerSnapshot
    schema: int = 1
    dashboard: str | None = None
    faults: tuple[FaultSnapshot, ...] = ()
    registry: RegistrySnapshot | None = None

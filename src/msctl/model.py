"""What the parts of msctl tell each other of a running stack: states, snapshots, events, and the
SystemView seam. What a user declares is in specs.py.

Frozen plain data and protocols only. Imports nothing of msctl, and no third-party package, so that
every module and every CLI verb can afford to import it. Only what there are many of has slots: they
double what a class costs at start-up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

LOOPBACK = "127.0.0.1"
GATEWAY = "gateway"


class Kind(StrEnum):
    """How a service runs."""

    HOSTED = "hosted"
    COMMAND = "command"
    REMOTE = "remote"
    """It runs elsewhere, at its `url`; the stack only knows where, and whether it answers."""


class BrokerMode(StrEnum):
    """Which AMQP server the stack uses."""

    AUTO = "auto"
    EMBEDDED = "embedded"
    EXTERNAL = "external"
    LOCAL = "local"
    DOCKER = "docker"


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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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


class BreakerState(StrEnum):
    """Whether an instance's circuit breaker lets requests through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True)
class TargetSnapshot:
    """One instance as the gateway sees it; `retry_in_s` is when an open breaker next tries."""

    service: str
    instance: str
    address: str
    breaker: BreakerState
    in_flight: int = 0
    pool_open: int = 0
    pool_waiting: int = 0
    retry_in_s: float | None = None


@dataclass(frozen=True)
class QueueSnapshot:
    """A queue of the broker, as far as the mode in use lets us see it."""

    name: str
    ready: int
    unacked: int
    consumers: int


@dataclass(frozen=True)
class BrokerSnapshot:
    """The broker; `url` never holds a password. `queues` is None where the mode does not tell."""

    mode: BrokerMode
    state: State
    url: str
    reason: str = ""
    pid: int | None = None
    connections: int | None = None
    queues: tuple[QueueSnapshot, ...] | None = None


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class LogQuery:
    """Which lines: of these services (none named means all), the last `tail`, and those to come.

    `since` is epoch seconds; `grep` a regular expression that the text must contain. `tail` counts
    what is left after both.
    """

    services: tuple[str, ...] = ()
    tail: int | None = None
    follow: bool = False
    since: float | None = None
    grep: str | None = None


@dataclass(frozen=True)
class ReloadResult:
    """What a reload came to: names of services, and for those in `failed` why they are not as declared.

    `updated` only go by new rules; `gateway` says whether the gateway's routes or settings changed.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    scaled: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    gateway: bool = False
    failed: Mapping[str, str] = field(default_factory=dict)

    def done(self) -> list[str]:
        """What was done and to what, as people read it: "restarted users, orders"."""
        parts = {
            "added": self.added,
            "removed": self.removed,
            "restarted": self.restarted,
            "scaled": self.scaled,
            "updated": (*self.updated, *(("the gateway",) if self.gateway else ())),
        }
        return [f"{what} {', '.join(names)}" for what, names in parts.items() if names]


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

    async def scale(self, counts: Mapping[str, int]) -> Snapshot:
        """Run so many instances of each of these; return when the new ones are ready or have failed."""
        ...

    async def reload(self) -> ReloadResult:
        """Take up the edited configuration and edited sources; what did not change runs on.

        A reload while another is under way waits for it. Raises ConfigError and PortTakenError, and
        then nothing has changed; a service whose new instances do not become ready keeps the old ones.
        """
        ...

    async def purge_queue(self, name: str) -> int:
        """Drop what is ready in a queue of the embedded broker; returns how many messages."""
        ...

    async def delete_queue(self, name: str) -> int:
        """Delete a queue of the embedded broker; returns how many messages were ready."""
        ...

    async def shutdown(self, timeout: float | None = None) -> None:
        """Stop everything and end the stack; returns when the stop has begun to be carried out."""
        ...

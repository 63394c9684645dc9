"""What the parts of msctl tell each other of a running stack: states, snapshots, events, and the
SystemView seam. What a user declares is in specs.py.

Frozen plain data and protocols only. Imports nothing of msctl, and no third-party package, so that
every module and every CLI verb can afford to import it. Only what there are many of has slots: they
double what a class costs at start-up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
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


class MessagingObserver(Protocol):
    """What a service tells of the messages that it sends and takes, so that they can be measured and
    a trace goes on from one service through a queue to the next."""

    def publishing(self, destination: str) -> AbstractContextManager[Mapping[str, str]]:
        """Around one publish, until it is confirmed; gives the headers to add to the message."""
        ...

    def processing(
        self, destination: str, headers: Mapping[str, object] | None
    ) -> AbstractContextManager[None]:
        """Around the handling of one message, which came with `headers`."""
        ...


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


class BreakerState(StrEnum):
    """Whether an instance's circuit breaker lets requests through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True)
class TargetSnapshot:
    """One instance as the gateway sees it: what it has there now, in requests and connections.

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

    `target` is how the gateway sees it; None where it sends it nothing: no route leads to its
    service, it is not ready, or no gateway runs.
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


@dataclass(frozen=True)
class MessageFlow:
    """Messages between a service and a queue, one way, within the last seconds."""

    queue: str
    sends: bool
    per_s: float


@dataclass(frozen=True)
class ServiceSnapshot:
    """A service and its instances; the service's own figures are those of its instances together.

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
        """Where it answers, as something to open."""
        return tuple(map(url_of, self.addresses))


def url_of(address: str) -> str:
    """The URL of one of ServiceSnapshot's addresses."""
    return address if "://" in address else f"http://{address}"


@dataclass(frozen=True)
class QueueSnapshot:
    """A queue of the broker, as far as the mode in use lets us see it.

    `published` and `delivered` count its messages since the broker started.
    """

    name: str
    ready: int
    unacked: int
    consumers: int
    published: int | None = None
    delivered: int | None = None


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
    dashboard: str | None = None


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
    """One line that a service or the stack itself (service "msctl") wrote.

    `trace` is the id of the trace of the request or message that it was written for, if any;
    `fields` are what its writer attached to it. `stream` is "stdout" or "stderr" for what a service
    printed, empty for what was logged.
    """

    seq: int
    time: float
    service: str
    level: str
    text: str
    instance: str = ""
    trace: str | None = None
    fields: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    stream: str = ""


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


class SpanKind(StrEnum):
    """Which side of a call a span is (OpenTelemetry's kinds)."""

    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"
    INTERNAL = "internal"
    """Neither: work within a program, of which only those that run on their own tell."""


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of work for a request: who did what, when (epoch seconds) and for how long."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    service: str
    kind: SpanKind
    start: float
    duration_s: float
    error: bool = False
    attributes: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """One trace in a list; its name and status are those of its first span."""

    trace_id: str
    name: str
    services: tuple[str, ...]
    start: float
    duration_s: float
    spans: int
    error: bool
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """All that is kept of one trace: its spans, by their beginning."""

    trace_id: str
    spans: tuple[Span, ...]
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class TraceQuery:
    """Which traces: those that touched one of these services (none named means all), newest first."""

    services: tuple[str, ...] = ()
    errors: bool = False
    min_duration_s: float = 0.0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class PeekedMessage:
    """A message as a queue holds it. `body` is text, cut where `size` (in bytes) says that there is more."""

    body: str
    size: int
    exchange: str = ""
    routing_key: str = ""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    redelivered: bool = False


PEEK_MESSAGES = 200
"""Messages at the head of a queue that are looked at."""
PEEK_BODY = 16 * 1024
"""Bytes of a message's body that are shown."""
PEEK_HEADERS = 32
"""Headers of a message that are shown, of each so many characters:"""
PEEK_HEADER = 256
PEEK_BYTES = 1024 * 1024
"""About how many bytes of messages are looked at, all in all."""

QueueLook = Sequence[tuple[bytes, PeekedMessage]]
"""What waits at the head of a queue, each message with a mark by which it is known again."""


class TraceView(Protocol):
    """The traces that a running stack keeps."""

    async def traces(self, query: TraceQuery) -> tuple[TraceSummary, ...]: ...

    async def trace(self, trace_id: str) -> Trace:
        """A trace by its id or an unambiguous beginning of it; raises UsageError where there is none."""
        ...


class QueueView(Protocol):
    """The broker's queues at the hands of a person."""

    async def publish(self, queue: str, body: bytes, content_type: str) -> None:
        """Return when the broker has confirmed it; raises BrokerError, also where there is no such queue."""
        ...

    def peek(self, queue: str) -> AsyncIterator[PeekedMessage]:
        """What waits in the queue and what comes to it, each once; nothing is taken out of it."""
        ...


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

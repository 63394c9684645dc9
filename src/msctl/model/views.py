"""The interfaces of a running stack: for the CLI and the dashboard, and for its services' messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from msctl.model.events import Event, LogLine, LogQuery
from msctl.model.messaging import BrokerChange, ChangeResult, Messaging, OutgoingMessage
from msctl.model.queue_messages import PeekedMessage
from msctl.model.runs import RunComparison, RunSummary
from msctl.model.snapshots import Snapshot
from msctl.model.traces import ObservedCalls, Trace, TraceQuery, TraceSummary


class MessageFacts(NamedTuple):
    """What is known of a message besides its destination: where it goes or came from, its size and ids."""

    server: str = ""
    port: int = 0
    size: int = 0
    routing_key: str = ""
    message_id: str = ""
    correlation_id: str = ""

    def attributes(self) -> dict[str, str | int]:
        """The attributes of its span, by OpenTelemetry's conventions for RabbitMQ."""
        found: dict[str, str | int] = {"messaging.message.body.size": self.size}
        if self.server:
            found["server.address"], found["server.port"] = self.server, self.port
        texts = {
            "messaging.rabbitmq.destination.routing_key": self.routing_key,
            "messaging.message.id": self.message_id,
            "messaging.message.conversation_id": self.correlation_id,
        }
        return found | {name: value for name, value in texts.items() if value}


NO_FACTS = MessageFacts()


class MessagingObserver(Protocol):
    """Observes the messages of a service, to measure them and to carry traces through queues."""

    def publishing(
        self, destination: str, message: MessageFacts = NO_FACTS
    ) -> AbstractContextManager[Mapping[str, str]]:
        """Surround one publish until its confirm; yields the headers to add to the message."""
        ...

    def processing(
        self, destination: str, headers: Mapping[str, object] | None, message: MessageFacts = NO_FACTS
    ) -> AbstractContextManager[None]:
        """Surround the handling of one message that came with `headers`."""
        ...


class TraceView(Protocol):
    """The traces that a running stack keeps."""

    async def traces(self, query: TraceQuery) -> tuple[TraceSummary, ...]: ...

    async def trace(self, trace_id: str) -> Trace:
        """The trace with this id or unambiguous prefix. Raises UsageError if there is none."""
        ...

    async def calls(self) -> ObservedCalls:
        """Who called whom, over HTTP and through queues, in the traces that are kept."""
        ...


class MessagingView(Protocol):
    """The stack's broker, in every mode: what it has, and what a person does to it."""

    async def messaging(self, find: str = "") -> Messaging:
        """What the broker has; with `find`, what has this text in a name. Raises BrokerError."""
        ...

    async def change(self, change: BrokerChange) -> ChangeResult:
        """Raises BrokerError, also for what the broker refuses, and UsageError."""
        ...

    async def publish(self, message: OutgoingMessage) -> None:
        """Publish and wait for the confirm. Raises BrokerError, also if the message reaches no queue."""
        ...

    def peek(self, queue: str) -> AsyncIterator[PeekedMessage]:
        """The messages in the queue and those that arrive, each once, without consuming them."""
        ...


class RunView(Protocol):
    """The recorded runs of the project, this one included, newest first."""

    async def runs(self) -> Sequence[RunSummary]:
        """Raises MsctlError if they cannot be read."""
        ...

    async def compare(self, before: str, after: str) -> RunComparison:
        """Raises UsageError for a name that is not a run's."""
        ...

    async def traces_of(self, run: str, query: TraceQuery) -> Sequence[TraceSummary]: ...

    async def trace_of(self, run: str, trace_id: str) -> Trace: ...


@dataclass(frozen=True)
class ReloadResult:
    """The result of a reload: names of services; `failed` gives the reason of each failure.

    `updated` have new live keys only; `gateway` says whether the gateway's routes or settings changed,
    `definitions` whether those of the embedded broker did.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    scaled: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    gateway: bool = False
    definitions: bool = False
    failed: Mapping[str, str] = field(default_factory=dict)

    def done(self) -> list[str]:
        """A phrase for each kind of change: "restarted users, orders"."""
        parts = {
            "added": self.added,
            "removed": self.removed,
            "restarted": self.restarted,
            "scaled": self.scaled,
            "updated": (
                *self.updated,
                *(("the gateway",) if self.gateway else ()),
                *(("the broker's definitions",) if self.definitions else ()),
            ),
        }
        return [f"{what} {', '.join(names)}" for what, names in parts.items() if names]


@dataclass(frozen=True)
class ServiceVariables:
    """The variables for a command that is run beside a service: the shell's own come between the two."""

    defaults: Mapping[str, str]
    overrides: Mapping[str, str]


class Variable(NamedTuple):
    """A variable of a service as it may be shown: a secret's value is masked."""

    name: str
    value: str


@dataclass(frozen=True)
class ServiceDetails:
    """A service's keys that are set, as TOML values, and its variables, by name."""

    service: str
    keys: tuple[tuple[str, str], ...]
    variables: tuple[Variable, ...]


class DetailView(Protocol):
    """What a running stack knows of one service beyond its state."""

    async def details(self, service: str) -> ServiceDetails:
        """Raises UnknownServiceError."""
        ...


class VariableView(Protocol):
    """The variables that a running stack gives its services."""

    async def variables(self, service: str | None) -> ServiceVariables:
        """Those of a service, or with None those of something that depends on all services."""
        ...


class SystemView(Protocol):
    """A running stack as the CLI and the dashboard see it.

    The stack implements it; `control.client` offers the same verbs, blocking, over the control
    socket. No services named means all of them. Raises UnknownServiceError for a name that the
    project does not have, before anything is done.
    """

    async def snapshot(self) -> Snapshot: ...

    def events(self) -> AsyncIterator[Event]:
        """The present state of every instance, then each change."""
        ...

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]: ...

    async def start(self, services: Sequence[str], *, deps: bool = True) -> Snapshot:
        """Start these and their dependencies; return when each is ready or has failed."""
        ...

    async def apply(self, services: Sequence[str]) -> None:
        """Begin to apply edits as `reload` does, then to start these, and return at once.

        What fails is in the log.
        """
        ...

    async def stop(self, services: Sequence[str]) -> Snapshot:
        """Stop these; return when they have stopped. Their dependents run on."""
        ...

    async def restart(self, services: Sequence[str], *, deps: bool = True) -> Snapshot: ...

    async def scale(self, counts: Mapping[str, int]) -> Snapshot:
        """Set the number of instances; return when the new ones are ready or have failed."""
        ...

    async def reload(self) -> ReloadResult:
        """Apply the edited configuration and sources; unchanged services run on.

        A reload while another is under way waits for it. Raises ConfigError and PortTakenError, and
        then nothing has changed; a service whose new instances do not become ready keeps the old ones.
        """
        ...

    async def peek_queue(self, name: str) -> Sequence[PeekedMessage]:
        """The messages at the head of a queue. Raises BrokerError for an unknown one."""
        ...

    async def purge_queue(self, name: str) -> int:
        """Purge a queue of the embedded broker; return the number of messages dropped."""
        ...

    async def delete_queue(self, name: str) -> int:
        """Delete a queue of the embedded broker; return the number of messages it held."""
        ...

    async def shutdown(self, timeout: float | None = None) -> None:
        """Begin to stop the stack, and return at once."""
        ...

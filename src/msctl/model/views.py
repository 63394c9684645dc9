"""The interfaces of a running stack: for the CLI and the dashboard, and for its services' messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from msctl.model.events import Event, LogLine, LogQuery
from msctl.model.queue_messages import PeekedMessage
from msctl.model.snapshots import Snapshot
from msctl.model.traces import Trace, TraceQuery, TraceSummary


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
